"""Learning rates over a run."""

import math

import pytest

from wideneck.errors import WideneckError
from wideneck.training.optimizers import SGD, AdamW


def test_adamw_rises_linearly_to_its_rate():
    config = AdamW(learning_rate=0.4, warmup=0.1)
    assert config.rate(0.025) == pytest.approx(0.1, rel=1e-12)
    assert config.rate(0.05) == pytest.approx(0.2, rel=1e-12)
    assert config.rate(0.1) == pytest.approx(0.4, rel=1e-12)


def test_adamw_falls_as_a_cosine_to_its_final_share():
    config = AdamW(learning_rate=0.4, warmup=0.2, final=0.1)
    assert config.rate(1.0) == pytest.approx(0.04, rel=1e-12)
    assert config.rate(1.5) == config.rate(1.0)
    assert config.rate(0.6) == pytest.approx(0.4 * 0.55, rel=1e-12)  # half way down
    for progress in (0.3, 0.45, 0.9):
        angle = math.pi * (progress - 0.2) / 0.8
        expected = 0.4 * (0.1 + 0.9 * math.cos(angle / 2) ** 2)
        assert config.rate(progress) == pytest.approx(expected, rel=1e-12)


def test_adamw_can_go_without_warmup_and_stay_where_it_is():
    assert AdamW(learning_rate=0.4, warmup=0.0).rate(0.0) == 0.4
    flat = AdamW(learning_rate=0.4, warmup=0.0, final=1.0)
    assert {flat.rate(p) for p in (0.0, 0.3, 1.0)} == {0.4}


def test_adamw_neither_rises_again_nor_warms_up_for_ever():
    with pytest.raises(WideneckError, match="final <= 1, got 2"):
        AdamW(final=2.0)
    with pytest.raises(WideneckError, match="warmup < 1, got 1"):
        AdamW(warmup=1.0)


def test_sgd_keeps_its_rate():
    assert {SGD(learning_rate=20.0).rate(p) for p in (0.0, 0.5, 1.0)} == {20.0}
