"""What was known of a low_rank head when it was attached; saved with it.  Imports no torch."""

from dataclasses import dataclass
from typing import Any

from wideneck.files.records import record


@dataclass(frozen=True, kw_only=True)
class LowRankStart:
    """Nats a token that a head lost against the full matrix before it was trained.

    On the half of a text that its factors were not fitted on; what the audit says of the
    truncation "fisher" of that rank.
    """

    rank: int
    hidden_size: int
    text: str
    """Name of the text."""
    text_sha256: str
    num_fit_tokens: int
    num_test_tokens: int
    predicted: float
    """By the second order of the loss."""
    measured: float
    low: float | None
    """Lower end of its 95 % interval over documents; None from a single one."""
    high: float | None

    def __str__(self):
        # Adding 0 takes the sign from a rounded -0.
        measured, predicted = (round(x, 4) + 0.0 for x in (self.measured, self.predicted))
        interval = "" if self.low is None else f" [{self.low:.4f}, {self.high:.4f}]"
        return (
            f"rank {self.rank} of {self.hidden_size}, fitted on {self.num_fit_tokens:,} tokens of "
            f"{self.text}: on {self.num_test_tokens:,} others it loses {measured:.4f}"
            f"{interval} nats a token before training, {predicted:.4f} predicted"
        )


def read_start(content: Any) -> LowRankStart:
    """As `config.json` holds it.

    Raises:
        WideneckError: a key is missing, unknown or of another kind.
    """
    name = "'start' in config.json of a saved wideneck model"
    return record(
        LowRankStart, content, name, "save the model again with save_pretrained", exact=True
    )
