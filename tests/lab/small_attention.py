"""A random model with room for the scan of 100 sizes, and settings under which a seed takes a
second or two."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers as tr

from tiny import GPT2
from tiny_text import character_tokenizer, write_text
from wideneck.lab.attention.reproduction import SCALES

CONTEXT = 128


def saved_model(folder: Path, *, positions: int = CONTEXT, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    model = tr.GPT2LMHeadModel(tr.GPT2Config(**GPT2 | {"n_layer": 2, "n_positions": positions}))
    for parameter in model.parameters():  # or every row is nearly uniform
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    character_tokenizer().save_pretrained(folder)
    return folder


def saved_text(folder: Path) -> Path:
    return write_text(folder / "text.txt")


def use_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SCALES:
        monkeypatch.setitem(SCALES, name, replace(SCALES[name], context=CONTEXT, num_queries=16))
