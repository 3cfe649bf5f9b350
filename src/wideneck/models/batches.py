"""Windows that go through a model together, and what happens where its memory ends.

A window of some hundred tokens keeps a processor busy by itself, and alone it gives the same bits
whoever else is read.  Only where a map of devices brings the weights of a layer from elsewhere
(`is_offloaded`) do windows go together, as many as memory allows, so that each weight comes once.
"""

import warnings
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, TypeVar

import torch

from wideneck.errors import WideneckError
from wideneck.files.boundary import out_of_memory
from wideneck.models.device_map import computing, is_offloaded, map_of
from wideneck.models.text_part import text_config

T = TypeVar("T")
SHARE = 0.6
"""Of the free memory, for what passes through a layer."""


class Batches:
    """Reads windows, at most `most` at a time, and fewer once memory has run out.

    Args:
        model: of transformers.
        asked: windows at a time; None for what suits the model.
        length: tokens of the longest window.
        outputs: numbers that the model gives for a token, such as its logits, where they are kept.
    """

    def __init__(self, model: Any, asked: int | None, length: int, *, outputs: int = 0):
        self._model, self._length = model, length
        if asked is None:
            asked = _that_fit(model, length, outputs) if is_offloaded(model) else 1
        self.most = asked

    def groups(self, lengths: Sequence[int]) -> list[range]:
        """Windows that follow each other and have one length, by number, `most` at most."""
        found, start = [], 0
        for _, same in groupby(lengths):
            stop = start + len(list(same))
            found += [range(i, min(i + self.most, stop)) for i in range(start, stop, self.most)]
            start = stop
        return found

    def read(self, windows: Sequence[int], run: Callable[[Sequence[int]], list[T]]) -> list[T]:
        """What `run` gives for windows, one result for each.

        Raises:
            WideneckError: there is no memory for a single one.
        """
        found: list[T] = []
        while len(found) < len(windows):
            now = windows[len(found) : len(found) + self.most]
            try:
                found += run(now)
            except Exception as error:
                if not out_of_memory(error.__cause__ or error):
                    raise
                if len(now) == 1:
                    raise WideneckError(
                        f"{type(self._model).__name__} and {self._length:,} tokens do not fit the "
                        "memory together: read shorter windows, give another dtype, or the device "
                        "map auto, which leaves parts of a model where there is room."
                    ) from error
                self.most = len(now) // 2
                warnings.warn(
                    f"wideneck: {len(now)} windows at once do not fit the memory, going on with "
                    f"{self.most}.",
                    stacklevel=2,
                )
            else:
                continue
            _free()
        return found


def _that_fit(model: Any, length: int, outputs: int) -> int:
    """Windows whose states fit `SHARE` of what is free where the model is computed.

    A layer holds some 2 I + 6 D numbers a token at once, I wide inside and D at its ends.
    """
    config = text_config(model.config)
    width = config.hidden_size
    inside = getattr(config, "intermediate_size", None) or 4 * width
    inside = max(inside) if isinstance(inside, list | tuple) else inside  # Gemma 3n has one a layer
    numbers = 2 * inside + 6 * width + 3 * outputs
    return max(1, int(SHARE * _free_memory(model) / (length * numbers * model.dtype.itemsize)))


def _free_memory(model: Any) -> int:
    """Bytes, where there are least of the devices that compute."""
    from accelerate.utils import get_max_memory

    free: dict[Any, Any] = get_max_memory()
    devices = computing(map_of(model) or {"": "cpu"})
    # What shares the CPU's memory stands there alone, by its kind.
    least = min(free.values())
    return min(free.get(device.index, free.get(device.type, least)) for device in devices)


def _free() -> None:
    """Give back what a pass has left that did not end."""
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()
