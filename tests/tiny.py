"""Tiny causal language models of random weights, one for each thing a head can be.

`CASES` is the list: name -> (config, the map from raw to final logits that it implies).
Building one takes milliseconds and no network.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
import transformers as tr

from wideneck.models import LogitMap

V, D = 96, 16
CACHE = (
    "cache"
    if "cache" in inspect.signature(tr.LlamaForCausalLM.forward).parameters
    else "past_key_values"
)
"""What transformers calls the cache of keys and values: the first from 5.24 on."""
SHORT = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
LLAMA = {
    "vocab_size": V,
    "hidden_size": D,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    **SHORT,
}
NEOX = {key: value for key, value in LLAMA.items() if key != "num_key_value_heads"}
GPT2 = {"vocab_size": V, "n_embd": D, "n_layer": 1, "n_head": 2, "n_positions": 64, **SHORT}
OPT = {
    "vocab_size": V,
    "hidden_size": D,
    "ffn_dim": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "word_embed_proj_dim": 8,  # as OPT-350m: the head is narrower than the model
    **SHORT,
}
IDENTITY = LogitMap("identity")

CASES: dict[str, tuple[Callable[[], Any], LogitMap]] = {
    "gpt2": (lambda: tr.GPT2Config(**GPT2), IDENTITY),
    "gpt-neox": (lambda: tr.GPTNeoXConfig(**NEOX), IDENTITY),
    "llama": (lambda: tr.LlamaConfig(**LLAMA), IDENTITY),
    "llama-tied": (lambda: tr.LlamaConfig(**LLAMA, tie_word_embeddings=True), IDENTITY),
    "phi": (lambda: tr.PhiConfig(**LLAMA), IDENTITY),
    "opt": (lambda: tr.OPTConfig(**OPT), IDENTITY),
    "gemma2": (
        lambda: tr.Gemma2Config(**LLAMA, head_dim=8, final_logit_softcapping=30.0),
        LogitMap("softcap", 1.0, 30.0),
    ),
    "gemma2-low-cap": (
        lambda: tr.Gemma2Config(**LLAMA, head_dim=8, final_logit_softcapping=5.0),
        LogitMap("softcap", 1.0, 5.0),
    ),
    "granite": (lambda: tr.GraniteConfig(**LLAMA, logits_scaling=8.0), LogitMap("scale", 1 / 8)),
    "cohere": (lambda: tr.CohereConfig(**LLAMA, logit_scale=0.0625), LogitMap("scale", 1 / 16)),
    "hyperclovax": (
        lambda: tr.HyperCLOVAXConfig(**LLAMA, logits_scaling=0.5),
        LogitMap("scale", 0.5),
    ),
}


def tiny_model(name: str) -> Any:
    """The case's model in float32 and eval mode; equal calls give equal weights."""
    torch.manual_seed(0)
    model: Any = tr.AutoModelForCausalLM.from_config(CASES[name][0]())
    # Biases start at zero and norms at one, which would hide a reader that drops them.
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model.eval()
