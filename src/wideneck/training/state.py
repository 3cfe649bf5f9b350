"""Where a run stands: what is not a tensor.  Plain numbers, kept in the checkpoint's header."""

from typing import Any

import msgspec


class Standing(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Counts, the losses so far, and what has been decided."""

    epoch: int = 0
    index: int = 0
    """Batches of this epoch that are done."""
    step: int = 0
    num_tokens: int = 0
    """Predictions of the whole run."""
    seconds: float = 0.0
    """Time of training and evaluation, that before an interruption included."""
    pending_nll: float = 0.0
    """Nats since the last line of metrics."""
    pending_tokens: int = 0
    pending_seconds: float = 0.0
    history: list[float] = []
    """Validation losses, nats a token."""
    best: int | None = None
    """Which of them is the lowest."""
    num_averaged: int | None = None
    """Iterates in the averages; None before they start."""
    metrics_size: int = 0

    def to_dict(self) -> dict[str, Any]:
        return msgspec.structs.asdict(self)
