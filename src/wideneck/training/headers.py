"""What the headers of our files say, as records: a key that is missing or wrong is named."""

from typing import Annotated, Any

import msgspec

Count = Annotated[int, msgspec.Meta(ge=1)]


class StatesAbout(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What cached states are of."""

    model: str
    head_sha256: str
    window: Count
    train_sha256: str
    train_tokens: Count
    valid_sha256: str
    valid_tokens: Count
    test_sha256: str | None = None
    test_tokens: Count | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it; without a test split that was not asked for."""
        return msgspec.to_builtins(self)


class Standing(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Where a run stands: counts, the losses so far, and what has been decided."""

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
    """Validation losses, in nats per token."""
    best: int | None = None
    """Which of them is the lowest."""
    num_averaged: int | None = None
    """Iterates in the averages; None before they start."""
    metrics_size: int = 0


class CheckpointHeader(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run stands; the rest of the header is what its task must agree in."""

    standing: Standing
    processes: Count


class TextWeights(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The weights of a language model."""

    step: int
    """After which they were the best."""
    text: str
    text_sha256: str
    vocabulary_sha256: str
    vocab_size: Count


class HeadWeights(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The weights of a head alone."""

    step: int
    states: StatesAbout
    head: dict[str, Any]
    """Its config."""
    logit_scale: float


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What every result.json holds, whatever was trained; there is more in it."""

    valid_loss: float
    valid_losses: list[float]
    valid_perplexity: float
    best_evaluation: int
    epochs: float
    steps: int
    tokens: int
    seconds: float
    tokens_per_second: float
    num_parameters: int
    versions: dict[str, str]
    test_loss: float | None = None
    test_perplexity: float | None = None
    vocab_size: int | None = None
