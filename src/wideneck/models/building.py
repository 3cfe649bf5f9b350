"""Stops the building of a model that its files could not fill.

A config of a hundred bytes can ask for 10^9 layers, and transformers would build them one by one.
Which of its numbers count layers, experts or positions is known to hundreds of model files only;
but whatever is built, torch is told of every module, parameter and buffer.  So the sum is watched
while it grows, and ends where no files of this size could hold such a model.

Cost: a call for each of these parts, of which a large model has some 2,000.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.nn.modules import module as registration

from wideneck.errors import WideneckError
from wideneck.models.folder import Folder, LocalFolder

PARTS = 10_000
"""Modules, parameters and buffers that every model may have; Llama 405B has 2,800."""
BYTES_A_PART = 2**16
"""Beyond those, one part for each such number of bytes in the files."""
MOST_PARTS = 200_000
NUMBERS_A_BYTE = 16
"""A byte holds eight weights of one bit, and a tied matrix stands in two places."""
NUMBERS = 2**28
"""Beyond those of the files: what is computed and not stored, such as masks."""
MOST_NUMBERS = 2**44
"""Where the size of the files is not known: ten times the largest model that there is."""


def size_of_files(folder: Folder) -> int | None:
    """Bytes of all files of a folder on this machine; None for one on the hub."""
    if not isinstance(folder, LocalFolder):
        return None
    return sum(folder.path(name).stat().st_size for name in folder.names())


@contextmanager
def building(name: object, size: int | None, *, filled: bool = True) -> Iterator[None]:
    """Inside, a model may be built that files of `size` bytes can hold, and no larger one.

    Args:
        name: what the user calls it.
        size: bytes of its files; None where nobody knows.
        filled: whether its weights are to come out of these files, so that their numbers count;
            False where it is built on the meta device and no weights are read.

    Raises:
        WideneckError: at the module, parameter or buffer that is one too many.
    """
    most_parts, most_numbers = MOST_PARTS, MOST_NUMBERS
    if size is not None:
        most_parts = min(MOST_PARTS, PARTS + size // BYTES_A_PART)
        most_numbers = NUMBERS + NUMBERS_A_BYTE * size
    thread = threading.get_ident()
    parts = numbers = 0

    def count(_module: Any, _name: str, part: Any) -> None:
        nonlocal parts, numbers
        if part is None or threading.get_ident() != thread:
            return
        parts += 1
        if isinstance(part, Tensor) and filled:
            numbers += part.numel()
        if parts > most_parts:
            raise _too_large(name, size, f"more than {most_parts:,} modules and tensors")
        if numbers > most_numbers:
            raise _too_large(name, size, f"more than {most_numbers:,} numbers")

    hooks = [
        registration.register_module_module_registration_hook(count),
        registration.register_module_parameter_registration_hook(count),
        registration.register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _too_large(name: object, size: int | None, what: str) -> WideneckError:
    held = "no model that there is has" if size is None else f"files of {size:,} bytes cannot fill"
    return WideneckError(
        f"{name}: its config makes a model of {what}, which {held}: a number in config.json is "
        "wrong, or the files are not complete; download it again."
    )
