"""Invented analogies, and settings under which a run takes a second or two."""

from dataclasses import replace
from pathlib import Path

import pytest

from wideneck.lab.ambiguous.words import SECTIONS
from wideneck.lab.histalign.reproduction import SCALES, settings
from wideneck.lab.histalign.runs import Settings
from wideneck.lab.histalign.training import Recipe
from wideneck.lab.registry import Request

TINY = replace(
    SCALES["small"],
    batch_size=8,
    micro_batch=8,
    num_steps=4,
    num_test_prompts=40,
    num_rank_rows=100,
)


def write_words(folder: Path, num_pairs: int = 10) -> Path:
    """Google's format: in each section, every pair with the two that follow it, both ways."""
    lines = []
    for number, section in enumerate(SECTIONS):
        pairs = [(f"{'abcd'[number]}one{i}", f"{'abcd'[number]}two{i}") for i in range(num_pairs)]
        lines.append(f": {section}")
        for i, pair in enumerate(pairs):
            for other in (pairs[(i + 1) % num_pairs], pairs[(i + 2) % num_pairs]):
                lines += [" ".join(pair + other), " ".join(other + pair)]
    path = folder / "words.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def small(recipe: Recipe = TINY) -> Settings:
    return replace(settings(Request(paper="histalign")), recipe=recipe)


def use_tiny(monkeypatch: pytest.MonkeyPatch, recipe: Recipe = TINY) -> None:
    """`wideneck reproduce` in this process, with runs of a second."""
    monkeypatch.setitem(SCALES, "small", recipe)
    monkeypatch.setattr("wideneck.lab.jobs.PROCESSES", 1)
