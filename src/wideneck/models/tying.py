"""Whether the input embedding and the output layer are the same numbers, decided by the numbers.

A config can say one thing and the file hold another; both readings are reported, and the file
is what is measured.
"""

from torch import Tensor

from wideneck.errors import WideneckError
from wideneck.models.checks import stored_bytes
from wideneck.models.tensor_file import TensorFile

FIRST_BLOCK = 2**16
"""Bytes: two different matrices differ in their first rows, which are cheap to fetch."""
NEXT_BLOCKS = 32 * 2**20
"""Bytes: a request each, where the checkpoint is on the hub."""


def same_numbers(head: Tensor, file: TensorFile, name: str) -> bool:
    """Whether a tensor of the head's type equals it bit for bit; stops at the first difference."""
    if file.shape(name) != tuple(head.shape):
        return False
    row = max(1, head[:1].numel() * head.element_size())
    start, size = 0, FIRST_BLOCK
    while start < len(head):
        stop = min(len(head), start + max(1, size // row))
        stored = stored_bytes(file.rows(name, start, stop))
        if not stored_bytes(head[start:stop]).equal(stored):
            return False
        start, size = stop, NEXT_BLOCKS
    return True


def stored_differently(head: str, embedding: str, kind: str, other: str) -> str:
    """The sentence for a head and an embedding of two types, of which one is quantized."""
    return (
        f"{head} and {embedding} are stored as {kind} and {other}, so their numbers differ, "
        "whether or not the original model was tied"
    )


def describe_tying(
    head: str | None, embedding: str | None, same: bool, expected: bool | None
) -> tuple[bool, str]:
    """Tied or not, and the sentence that says how it was decided.

    Args:
        head: stored name of the head, None where the checkpoint has none.
        embedding: stored name of the input embedding, None where it has none.
        same: whether both are stored and equal bit for bit.
        expected: what the config says, None where nothing says anything.
    """
    if head is None:
        if expected is False:
            raise WideneckError(
                "The config says that head and embedding are not tied, but the checkpoint holds "
                f"no head, only {embedding}: it is a bare model, whose head would be random "
                "numbers; give the causal language model."
            )
        return True, f"no separate head tensor in the checkpoint: {embedding} is the head"
    if embedding is None:
        if expected:
            return True, f"the checkpoint holds {head} alone and config.json says tied"
        return False, f"the checkpoint holds {head} and no input embedding to compare it with"
    if same:
        said = "; config.json says not tied" if expected is False else ""
        return True, f"{head} and {embedding} hold the same bytes{said}"
    if expected:
        return False, (
            f"config.json says tied, the file holds two different matrices: measured the stored "
            f"{head}"
        )
    return False, f"{head} and {embedding} hold different numbers"
