"""Tiny models with a memory that matters, and what their tests share."""

import torch
import transformers as tr

import wideneck as wn
from tiny import SHORT, D, V

DECODER = {
    "vocab_size": V,
    "hidden_size": D,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    **SHORT,
}
GPT2 = {"vocab_size": V, "n_embd": D, "n_layer": 2, "n_head": 2, "n_positions": 64, **SHORT}
BART = {
    "vocab_size": V,
    "d_model": D,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 64,
    "decoder_start_token_id": 1,
    "forced_eos_token_id": None,
    **SHORT,
}
T5 = {
    "vocab_size": V,
    "d_model": D,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 2,
    "num_heads": 2,
    "dropout_rate": 0.0,
    "decoder_start_token_id": 2,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
DECODERS = {
    "llama": lambda: tr.LlamaForCausalLM(tr.LlamaConfig(**DECODER, num_key_value_heads=1)),
    "gpt2": lambda: tr.GPT2LMHeadModel(tr.GPT2Config(**GPT2)),
    "qwen2": lambda: tr.Qwen2ForCausalLM(tr.Qwen2Config(**DECODER, num_key_value_heads=1)),
    # Layers of its cache slide: shorter than what the memory keeps.
    "mistral": lambda: tr.MistralForCausalLM(
        tr.MistralConfig(**DECODER, num_key_value_heads=1, sliding_window=4)
    ),
}
ENCODER_DECODERS = {
    "bart": lambda: tr.BartForConditionalGeneration(tr.BartConfig(**BART)),
    "t5": lambda: tr.T5ForConditionalGeneration(tr.T5Config(**T5)),
    "mbart": lambda: tr.MBartForConditionalGeneration(tr.MBartConfig(**BART)),
    "pegasus": lambda: tr.PegasusForConditionalGeneration(tr.PegasusConfig(**BART)),
}
MODELS = {**DECODERS, **ENCODER_DECODERS}
MATTERS = {"temperature": 0.5, "bias": -1.0}
"""About as much of the probability for the memory as for the model."""


def model_of(name, dtype=torch.float32):
    """Without a memory."""
    torch.manual_seed(0)
    model = MODELS[name]().to(dtype)
    for parameter in model.parameters():  # far enough from their start to differ by position
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def remembering(name, dtype=torch.float32, **options):
    return wn.attach_memory(model_of(name, dtype), **{**MATTERS, **options})


def prompts(pad=0):
    """Three rows of 5, 8 and 8 tokens, padded on the left; few different ones, so they repeat."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 9, (3, 8), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    return {"input_ids": torch.where(mask.bool(), ids, 2), "attention_mask": mask}
