"""A whole split in its order, for validation within the loop."""

from torch import Tensor

from wideneck.evaluation.streaming import Reading
from wideneck.models.small.language_model import LanguageModel
from wideneck.training.batches import Batch
from wideneck.training.schedule import Schedule


def text_in_order(
    model: LanguageModel, ids: Tensor, schedule: Schedule, batch_size: int
) -> list[Batch]:
    """A text as `wideneck.evaluation` reads it.

    Args:
        model: says whether a state is carried, or how long its windows are.
        ids: (N,).
        schedule: how many tokens at a time, and how much of the text.
        batch_size: rows.
    """
    reading = Reading.of(
        model,
        ids[: schedule.evaluation_tokens],
        batch_size=batch_size,
        segment=schedule.segment,
    )
    windowed = reading.context is not None
    return [
        _batch(input, target, fresh=windowed or number == 0)
        for number, (input, target) in enumerate(reading)
    ]


def rows_in_order(hidden: Tensor, target: Tensor, schedule: Schedule) -> list[Batch]:
    """Cached states (N, D) and targets (N,); views, read from the disk when they are used."""
    size, upto = schedule.evaluation_batch_size, schedule.evaluation_tokens
    pairs = zip(hidden[:upto].split(size), target[:upto].split(size), strict=True)
    return [_batch(x, y, fresh=True) for x, y in pairs]


def _batch(input: Tensor, target: Tensor, *, fresh: bool) -> Batch:
    return Batch(input=input, target=target, fresh=fresh, share=1.0, num_tokens=target.numel())
