"""The tensors that together store one quantized matrix, such as `lm_head.weight_packed`."""

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from wideneck.errors import WideneckError
from wideneck.files.printable import listed
from wideneck.models.checks import STORED, dtype_name, stored_bytes
from wideneck.models.tensor_file import TensorFile

TYPES = STORED | {dtype_name(dtype): dtype for dtype in STORED.values()}
"""By the names that .safetensors files and torch have for them."""
BLOCK = 2**20
"""Numbers decoded at a time."""


class StoredMatrix:
    """The parts of one matrix, by their names without the module's.

    Args:
        file: where they are.
        name: the module's name, as `lm_head`.
        parts: what the module holds, as `weight_packed`.
        config: the `quantization_config` of config.json, or nothing.
    """

    def __init__(
        self, file: TensorFile, name: str, parts: Collection[str], config: Mapping[str, Any]
    ):
        self.name = name
        self.parts = frozenset(parts)
        self.config = config
        self._file = file
        self._held: dict[str, Tensor] = {}

    def shape(self, part: str) -> tuple[int, ...]:
        """As it is stored."""
        return self._file.shape(self._full(part))

    def dtype(self, part: str) -> torch.dtype:
        """The type of its numbers; one that no layout has is refused."""
        said = self._file.dtype(self._full(part))
        if said not in TYPES:
            raise self.refused(f"{part} is of the type {said}")
        return TYPES[said]

    def rows(self, part: str, start: int, stop: int) -> Tensor:
        """Rows of a part, from the file unless `whole` has read it."""
        held = self._held.get(part)
        if held is not None:
            return held[start:stop]
        return self._file.rows(self._full(part), start, stop)

    def whole(self, part: str) -> Tensor:
        """All of a part, which stays in memory; mapped where the file is on this machine."""
        if part not in self._held:
            name = self._full(part)
            self.dtype(part)
            self._file.check(name)
            shape = self.shape(part)
            self._held[part] = self._file.rows(name, 0, shape[0] if shape else 1)
        return self._held[part]

    def number(self, part: str) -> float:
        """A part that is one number."""
        values = self.floats(part)
        if values.numel() != 1:
            raise self.refused(f"{part} should be one number and has shape {self.shape(part)}")
        return float(values)

    def floats(self, part: str) -> Tensor:
        """A part of floats in float32, powers of two among them (`F8_E8M0`)."""
        if not self.dtype(part).is_floating_point:
            raise self.refused(f"{part} is of whole numbers")
        return self.whole(part).to(torch.float32)

    def scales(self, part: str, *, of_zero: bool = False, signed: bool = False) -> Tensor:
        """As `floats`, of numbers that others are multiplied by.

        Args:
            of_zero: whether 0 may stand there, for numbers that are all 0.
            signed: whether a writer turns the sign of a group.
        """
        values = self.floats(part)
        good = values.isfinite()
        if not of_zero:
            good &= values != 0
        if not signed:
            good &= values >= 0
        if not good.all():
            wrong = values[~good].flatten()
            raise self.refused(
                f"{len(wrong):,} of the scales in {part} are no scales, the first of them "
                f"{float(wrong[0]):g}"
            )
        return values

    def sha256(self, parts: Collection[str]) -> str:
        """Hash of the stored bytes of these parts, in the order of their names."""
        digest = hashlib.sha256()
        for part in sorted(parts):
            whole = self.whole(part)
            step = max(1, BLOCK // max(1, whole[:1].numel()))
            for start in range(0, len(whole), step):
                digest.update(stored_bytes(whole[start : start + step]).numpy().data)
        return digest.hexdigest()

    def said_of_weights(self, key: str) -> list[Any]:
        """What the groups of a config of compressed-tensors say of weights, as `num_bits`."""
        groups = self.config.get("config_groups")
        weights = [
            group.get("weights")
            for group in (groups.values() if isinstance(groups, dict) else ())
            if isinstance(group, dict)
        ]
        return [of.get(key) for of in weights if isinstance(of, dict)]

    def refused(self, why: str) -> WideneckError:
        """The one sentence of everything that is not understood."""
        held = listed([self._full(part) for part in sorted(self.parts)], 8)
        return WideneckError(
            f"{self.name} of {self._file.title} is quantized in a way that wideneck does not read "
            f"({why}; stored are {held}): give the original checkpoint or a GGUF file."
        )

    def _full(self, part: str) -> str:
        return f"{self.name}.{part}"
