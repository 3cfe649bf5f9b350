"""Numbers of configs: the least and the largest are taken, what is just beyond them is refused."""

import math
from dataclasses import fields
from functools import partial

import pytest

from wideneck.attention.config import NORMALIZERS
from wideneck.errors import WideneckError
from wideneck.evaluation.config import DynamicEvaluation, NeuralCache
from wideneck.memory.config import Memory

TINY = 1e-300
LARGE = 1e30
BELOW_ONE = math.nextafter(1, 0)

MAKES = {
    **{name: type(config) for name, config in NORMALIZERS.items()},
    "memory": Memory,
    "dynamic evaluation": DynamicEvaluation,
    "neural cache": partial(NeuralCache, **{"theta": 0.0, "weight": 0.0}),
}

ANY = ([-LARGE, 0, LARGE], [-2 * LARGE, 2 * LARGE])
POSITIVE = ([TINY, LARGE], [0, -TINY, 2 * LARGE])
NOT_NEGATIVE = ([0, LARGE], [-TINY, 2 * LARGE])
FROM_ONE = ([1, LARGE], [BELOW_ONE, 2 * LARGE])
COUNT = ([1, 2**31 - 1], [0, 1.5, 2**31])
COUNT_FROM_ZERO = ([0, 2**31 - 1], [-1, 0.5, 2**31])

BOUNDS = {
    ("temperature", "temperature"): POSITIVE,
    ("sink", "logit"): ANY,
    ("ssmax", "scale"): ANY,
    ("ssmax", "bias"): ANY,
    ("topk", "k"): COUNT,
    ("entmax", "alpha"): FROM_ONE,
    ("asentmax", "alpha"): FROM_ONE,
    ("asentmax", "delta"): ANY,
    ("asentmax", "reach"): NOT_NEGATIVE,
    ("asentmax", "beta"): ANY,
    ("asentmax", "gamma"): ANY,
    ("sigmoid", "bias"): ANY,
    ("softpick", "epsilon"): POSITIVE,
    ("memory", "temperature"): POSITIVE,
    ("memory", "bias"): ANY,
    ("memory", "weight"): ([TINY, BELOW_ONE], [0, 1]),
    ("memory", "window"): COUNT,
    ("memory", "separator"): COUNT_FROM_ZERO,
    ("memory", "alpha"): NOT_NEGATIVE,
    ("memory", "margin"): NOT_NEGATIVE,
    ("memory", "warmup_batches"): COUNT_FROM_ZERO,
    ("dynamic evaluation", "learning_rate"): NOT_NEGATIVE,
    ("dynamic evaluation", "decay"): POSITIVE,
    ("dynamic evaluation", "epsilon"): POSITIVE,
    ("dynamic evaluation", "segment"): COUNT,
    ("neural cache", "size"): COUNT,
    ("neural cache", "theta"): NOT_NEGATIVE,
    ("neural cache", "weight"): ([0, BELOW_ONE], [-TINY, 1]),
}
"""What is taken, and what is refused."""


def test_no_number_of_a_config_is_forgotten_here():
    numbers = set()
    for name, make in MAKES.items():
        config = make()
        for field in fields(config):
            value = getattr(config, field.name)
            if not isinstance(value, bool | str):
                numbers.add((name, field.name))
    assert numbers == set(BOUNDS)


@pytest.mark.parametrize(("name", "field"), BOUNDS)
def test_a_number_at_its_bound_is_taken_and_one_beyond_it_is_refused(name, field):
    taken, refused = BOUNDS[name, field]
    for value in taken:
        assert getattr(MAKES[name](**{field: value}), field) == value
    for value in [*refused, math.nan, math.inf, -math.inf, True, "1"]:
        with pytest.raises(WideneckError) as caught:
            MAKES[name](**{field: value})
        assert field in str(caught.value)
        assert "\n" not in str(caught.value)
