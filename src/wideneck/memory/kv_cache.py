"""The cache of keys and values among a model's arguments and in its result, whatever its name."""

from collections.abc import Mapping
from typing import Any

NAMES = ("cache", "past_key_values")
"""From transformers 5.24 on, which takes the other as an argument until 5.40; and before."""


def cache_in(named: Mapping[str, Any]) -> Any:
    """The cache among the options of a forward, or in its result; None if there is none.

    By its items: asked for by name, a result of transformers 5.24 logs that the old one is going.
    """
    found = (value for name, value in named.items() if name in NAMES)
    return next((value for value in found if value is not None), None)
