"""Texts and models for the benchmarks of a memory: the default model's sizes, random weights."""

from typing import Any

import torch
import transformers as tr
from torch import Tensor

VOCAB_SIZE, WIDTH = 49_152, 576


def text(batch: int, length: int, seed: int = 0) -> Tensor:
    """(B, T) token ids by a law of Zipf's kind.

    With the exponent 1.3 some 60 % of 512 stand among those before them, as in English.
    """
    generator = torch.Generator().manual_seed(seed)
    p = 1 / (torch.arange(VOCAB_SIZE) + 2.7) ** 1.3
    return torch.multinomial(p, batch * length, True, generator=generator).view(batch, length)


def model() -> Any:
    """A Llama of the sizes of SmolLM2-135M; what it predicts does not matter for its speed."""
    torch.manual_seed(0)
    config = tr.LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=WIDTH,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    )
    config._attn_implementation = "sdpa"
    return tr.LlamaForCausalLM(config)
