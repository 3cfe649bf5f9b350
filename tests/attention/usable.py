"""Tiny models of random weights, of two layers each, that `use` is tried on."""

import torch
import transformers as tr

from wideneck.attention import names, use

V = 96
WINDOW = 5
SHORT = {
    "vocab_size": V,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
    "initializer_range": 0.2,  # large enough for attention that is far from flat
}
DEEP = {
    **SHORT,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
GROUPED = {**DEEP, "num_key_value_heads": 2}
GPT2 = {**SHORT, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}

MODELS = {
    "llama": lambda: tr.LlamaConfig(**GROUPED),
    "gpt2": lambda: tr.GPT2Config(**GPT2),
    "qwen2": lambda: tr.Qwen2Config(**GROUPED),
    "gemma2": lambda: tr.Gemma2Config(
        **GROUPED, head_dim=8, sliding_window=WINDOW, attn_logit_softcapping=2.0
    ),
    "gpt-neox": lambda: tr.GPTNeoXConfig(**DEEP),
    "mistral": lambda: tr.MistralConfig(**GROUPED, sliding_window=WINDOW),
    "gpt-oss": lambda: tr.GptOssConfig(  # which has sinks of its own
        **GROUPED, head_dim=8, sliding_window=WINDOW, num_local_experts=2, num_experts_per_tok=1
    ),
}
OPTIONS = {"topk": {"k": 3}, "ssmax": {"scale": 0.4, "bias": 0.3}, "sink": {"logit": 0.5}}
"""What makes a normalizer differ from the softmax on a few tokens."""

PAIRS = [("mistral", name) for name in names() if name != "softmax"]
PAIRS += [(model, name) for model in MODELS for name in ("ssmax", "asentmax") if model != "mistral"]
PAIRS += [("gemma2", "sink"), ("gpt2", "topk"), ("llama", "stickbreaking")]
"""Every normalizer under GQA and a window; every model with a fused and a dense one."""

LEARNED = ["sink", "ssmax", "entmax", "asentmax"]


def tiny(name, **options):
    """The model in eval mode; equal calls give equal weights."""
    torch.manual_seed(0)
    config = MODELS[name]()
    if name == "gemma2":  # in transformers 5.18 its SDPA, the default, drops the cap
        options = {"attn_implementation": "eager", **options}
    if name == "gpt-oss":  # whose experts are multiplied in float64 by this alone
        options = {"experts_implementation": "eager", **options}
    return tr.AutoModelForCausalLM.from_config(config, **options).eval()


def used(model, name):
    return use(tiny(model), name, **OPTIONS.get(name, {}))


def shaken(model):
    """Learned numbers of the attention moved from their start, each by another amount."""
    generator = torch.Generator().manual_seed(2)
    for name, parameter in model.named_parameters():
        if ".normalizer." in name:
            parameter.data.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def token_ids(shape=(2, 13), seed=1):
    # From 3 on, so that no padding or end-of-sequence token is among them.
    return torch.randint(3, V, shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def logits(model, ids, **options):
    return model(input_ids=ids, **options).logits
