"""Which modules of a model are attention layers: those that call the attention function."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from wideneck.attention.config import Normalizer
from wideneck.attention.learned import LearnedNormalizer
from wideneck.errors import WideneckError


class _Finding(threading.local):
    config: Normalizer | None = None
    found: dict[nn.Module, int] | None = None


_finding = _Finding()


@contextmanager
def finding(config: Normalizer) -> Iterator[dict[nn.Module, int]]:
    """Inside, a layer without a normalizer gets one of this config, and is noted with its heads."""
    _finding.config, _finding.found = config, {}
    try:
        yield _finding.found
    finally:
        _finding.config = _finding.found = None


def newcomer(module: nn.Module, num_heads: int) -> LearnedNormalizer:
    """The normalizer of a layer that has none yet.

    Raises:
        WideneckError: no probe is under way, or the layer has something else of that name.
    """
    name = type(module).__name__
    if _finding.found is None or _finding.config is None:
        raise WideneckError(
            f"A {name} of this model has no normalizer: set it with wideneck.attention.use, and "
            "load saved models with wideneck.load."
        )
    if hasattr(module, "normalizer"):
        raise WideneckError(
            f"{name} has a part called 'normalizer' of its own, so wideneck cannot put one there."
        )
    normalizer = LearnedNormalizer(_finding.config, num_heads)
    module.normalizer = normalizer
    _finding.found[module] = num_heads
    return normalizer
