"""What cannot be measured is NaN in its place, and a note says which number and why.

NaN goes through arithmetic by itself, so a number that is made of one that could not be measured
cannot pass for one that was.  Reports write "not measurable" for it, and JSON null
(`report.fields`).  None keeps its meaning: not asked for, or not there.
"""

import dataclasses
import math
import typing
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from wideneck.errors import WideneckError
from wideneck.files.boundary import reason

T = TypeVar("T")


class UnmeasurableError(WideneckError):
    """This model's numbers do not allow a measure: nothing that its user did wrong."""


NUMERICAL = (UnmeasurableError, ArithmeticError, ValueError, torch.linalg.LinAlgError)
"""What numbers lead to: overflow, no convergence, a solver that takes no NaN (numpy's LinAlgError
is a ValueError).  A mistake of the user, which is a ValueError too, is let through."""


def measured(name: str, function: Callable[[], T], otherwise: T, notes: list[str] | None) -> T:
    """What the function gives; or `otherwise`, and a note, where the numbers do not allow it.

    Args:
        name: the measure, as the note names it.
        function: computes it.
        otherwise: such as None, or the `unknown` record.
        notes: those of the section, to be added to; None to raise instead.

    Raises:
        WideneckError: as raised inside, but for `UnmeasurableError`; without notes, that too.
    """
    try:
        return function()
    except NUMERICAL as error:
        if notes is None:
            raise
        if isinstance(error, WideneckError) and not isinstance(error, UnmeasurableError):
            raise
        why = str(error) if isinstance(error, WideneckError) else reason(error)
        notes.append(f"Not measurable: {name} ({why.rstrip('.')}).")
        return otherwise


def unknown(kind: type[T], **known: Any) -> T:
    """A record of which only `known` is known: floats are NaN, lists empty, texts too."""
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(typing.cast(Any, kind))
    return kind(**{f.name: known.get(f.name, _nothing(hints[f.name])) for f in fields})


def _nothing(hint: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return unknown(typing.cast(type, hint))
    if type(None) in typing.get_args(hint):
        return None
    kind: Any = typing.get_origin(hint) or hint
    return math.nan if kind is float else kind()


def settled(value: T) -> T:
    """The same record with NaN for infinities, and every NaN of it named in a note.

    The last check before a report: whatever a measure let through ends here.  The notes go to the
    nearest record around that has a field `notes`.
    """
    return _settled(value, "", _Places())


@dataclasses.dataclass
class _Places:
    """Where numbers are, and where they are not finite."""

    lost: list[str] = dataclasses.field(default_factory=list)
    num_floats: int = 0


def _settled(value: Any, path: str, places: _Places) -> Any:
    if isinstance(value, float):
        places.num_floats += 1
        if math.isfinite(value):
            return value
        places.lost.append(path)
        return math.nan
    if isinstance(value, list):
        return [_settled(part, f"{path}[]", places) for part in value]
    if isinstance(value, dict):
        return {key: _settled(part, f"{path}.{key}", places) for key, part in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _settled_record(value, path, places)
    return value


def _settled_record(record: Any, path: str, places: _Places) -> Any:
    noting, inner = hasattr(record, "notes"), _Places()
    prefix = "" if noting or not path else f"{path}."
    changes = {
        field.name: _settled(getattr(record, field.name), f"{prefix}{field.name}", inner)
        for field in dataclasses.fields(record)
    }
    if noting and inner.lost:
        changes["notes"] = _named(record.notes, inner.lost)
    elif not noting:
        all_lost = path and 1 < len(inner.lost) == inner.num_floats
        places.lost += [path] if all_lost else inner.lost  # one name for a record without numbers
        places.num_floats += 1 if all_lost else inner.num_floats
    return dataclasses.replace(record, **changes)


def _named(notes: list[str], places: list[str]) -> list[str]:
    """The notes, and one more for the places that were not finite, each with its count."""
    listed = [
        f"{place} ({n:,} of them)" if n > 1 else place for place, n in Counter(places).items()
    ]
    note = f"Not measurable, for want of a finite number: {', '.join(listed)}."
    return notes if note in notes else [*notes, note]
