"""A checkpoint whose quantized matrices look as if they were stored plainly.

`lm_head.weight_packed`, `lm_head.weight_scale` and so on are one tensor `lm_head.weight` here, of
the shape that it decodes to, whose rows are float32.  So whatever looks for a head, compares it
with an embedding or reads its rows does so as in any checkpoint.  The layout of a matrix is found
when it is asked for; opening costs the names.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from wideneck.errors import WideneckError
from wideneck.files.boundary import reading
from wideneck.models.quantized.layouts import CODES, SIGNS, decoder
from wideneck.models.quantized.matrix import QuantizedMatrix
from wideneck.models.quantized.stored import StoredMatrix
from wideneck.models.tensor_file import TensorFile

MEND = "download the file again"


class DecodedFile(TensorFile):
    """The tensors of another file, with every quantized matrix as one of them.

    Args:
        file: as it is stored.
        config: the content of config.json, of which `quantization_config` says what no tensor does.
    """

    def __init__(self, file: TensorFile, config: Mapping[str, Any]):
        super().__init__(file.title)
        self._file = file
        self._config = _quantization(config)
        names = file.names()
        parts = _parts(names)
        self._parts = {f"{module}.weight": held for module, held in parts.items()}
        hidden = {f"{module}.{part}" for module, held in parts.items() for part in held}
        hidden -= {f"{module}.bias" for module in parts}
        self._names = [name for name in names if name not in hidden] + list(self._parts)
        self._read: dict[str, tuple[StoredMatrix, QuantizedMatrix]] = {}

    def names(self) -> list[str]:
        return list(self._names)

    def shape(self, name: str) -> tuple[int, ...]:
        """As it decodes; () of what no layout reads and perhaps nobody asks for."""
        try:
            found = self.quantized(name)
        except WideneckError:
            return ()
        return self._file.shape(name) if found is None else found.shape

    def dtype(self, name: str) -> str:
        found = self.quantized(name)
        return self._file.dtype(name) if found is None else found.dtype

    def check(self, name: str) -> None:
        if self.quantized(name) is None:
            self._file.check(name)

    def refuse_packed(self, name: str) -> None:
        """Refuse codes of an unknown layout, and what stands alone and is no float."""
        if self.quantized(name) is None:
            self._file.refuse_packed(name)

    def read(self, name: str) -> Tensor:
        """The whole tensor; of a quantized matrix its codes stay in memory besides."""
        found = self.quantized(name)
        if found is None:
            return self._file.read(name)
        stored, _ = self._read[name]
        with reading(self.title, name, MEND):
            for part in found.parts:
                stored.whole(part)
            return found.whole()

    def _rows(self, name: str, start: int, stop: int) -> Tensor:
        found = self.quantized(name)
        if found is None:
            return self._file.rows(name, start, stop)
        return found.rows(start, stop)

    def quantized(self, name: str) -> QuantizedMatrix | None:
        """The layout of a matrix, None of a tensor that is stored as it is.

        Raises:
            WideneckError: it is quantized in a way that no layout has.
        """
        if name not in self._parts:
            return None
        if name not in self._read:
            module = name.removesuffix(".weight")
            stored = StoredMatrix(self._file, module, self._parts[name], self._config)
            with reading(self.title, name, MEND):
                self._read[name] = stored, decoder(stored)
        return self._read[name][1]

    def sha256(self, name: str) -> str:
        """Hash of the stored bytes of a quantized matrix: of its codes, scales and zeros."""
        stored, found = self._read[name]
        return stored.sha256(found.parts)


def _parts(names: list[str]) -> dict[str, list[str]]:
    """The modules with a quantized matrix, and what each holds, in two passes over the names."""
    there = set(names)
    modules: dict[str, list[str]] = {}
    for name in names:
        module, _, part = name.rpartition(".")
        if name.endswith(".weight.absmax"):
            module, part = name.removesuffix(".weight.absmax"), "weight.absmax"
        if module and (part in CODES or (part in SIGNS and f"{module}.weight" in there)):
            modules[module] = []
    if modules:
        for name in names:
            before, found, _ = name.partition(".weight.")
            module = before if found and before in modules else name.rpartition(".")[0]
            if module in modules:
                modules[module].append(name.removeprefix(f"{module}."))
    return modules


def _quantization(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What config.json says of it, at the top, of the text part, or under an earlier name."""
    text = config.get("text_config")
    for level in (config, text if isinstance(text, dict) else {}):
        for key in ("quantization_config", "compression_config"):
            said = level.get(key)
            if isinstance(said, dict):
                return said
    return {}
