"""Pairs and a recipe under which a run of a task takes a second or two."""

import pytest

from wideneck.lab.tasks import pair_tasks
from wideneck.lab.tasks.data_to_text import table_pairs
from wideneck.lab.tasks.encoder_decoder import Shape
from wideneck.lab.tasks.measuring import MEASURES
from wideneck.lab.tasks.seq2seq import Recipe, Seq2Seq

TINY = Recipe(
    shape=Shape(hidden_size=16, num_layers=1, num_heads=2, vocab_size=320),
    batch_size=8,
    micro_batch=4,
    num_steps=10,
    learning_rate=1e-2,
    source_length=96,
    target_length=24,
    num_train=40,
    num_valid=9,
    num_test=10,
    num_rank_rows=50,
)


def trial(seed: int = 0, recipe: Recipe = TINY, **memory) -> Seq2Seq:
    """A model that is to describe tables."""
    data = table_pairs(0, 40, 9, 10)
    return Seq2Seq(None, recipe, data, {"alpha": 0.0, **memory}, seed, MEASURES["data-to-text"])


def use_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """`wideneck reproduce` in this process, with runs of a second."""
    monkeypatch.setattr(pair_tasks, "recipe_of", lambda task, scale: TINY)
    monkeypatch.setattr("wideneck.lab.jobs.PROCESSES", 1)
