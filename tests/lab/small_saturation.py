"""Settings under which the whole reproduction takes seconds: a tiny model, widths of 4 to 16."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from small_attention import saved_model

from tiny_text import character_tokenizer, write_text
from wideneck.lab.registry import Request
from wideneck.lab.saturation import reproduction
from wideneck.lab.saturation.reproduction import Reproduction, Settings, settings
from wideneck.models.small.config import States, Transformer
from wideneck.training.recipe import Recipe

WIDTHS = (4, 8, 16)
RANKS = (2, 8)


def tiny_settings(folder: Path) -> Settings:
    """The small scale, made tiny; its model has d = 16 and is random."""
    folder.mkdir(exist_ok=True)
    text = write_text(folder / "text.txt", documents=30)
    model = saved_model(folder / "model")
    tokenizer = character_tokenizer()
    tokenizer.eos_token = tokenizer.bos_token  # stands between two documents
    tokenizer.save_pretrained(model)
    small = settings("small", str(model), str(text))
    heads = small.heads
    assert isinstance(heads.model, States)
    states = replace(heads.model, train_tokens=512, valid_tokens=256, window=32)
    schedule = replace(heads.training, batch_size=64, epochs=2.0)
    return replace(
        small,
        family={width: _narrow(small.family[16], width) for width in WIDTHS},
        tokens=40 * 32,
        linear=2,
        train_tokens=64,
        heads=replace(heads, model=states, training=schedule),
        ranks=RANKS,
        tokenizers=(str(model),),
    )


def reproduced(folder: Path, *, num_seeds: int = 1, **changes: Any) -> Reproduction:
    chosen = replace(tiny_settings(folder), **changes)
    request = Request(paper="saturation", num_seeds=num_seeds, out=folder / "out")
    with patch.object(reproduction, "settings", return_value=chosen):
        return reproduction.reproduce(request, lambda stage, done, total: None)


def _narrow(recipe: Recipe, width: int) -> Recipe:
    assert isinstance(recipe.model, Transformer)
    options = recipe.model.options | {
        "hidden_size": width,
        "intermediate_size": width,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    }
    schedule = replace(recipe.training, batch_size=4, evaluation_tokens=65)
    return replace(
        recipe, model=replace(recipe.model, context=8, options=options), training=schedule
    )
