"""Fields of a report as plain data, and the definitions that travel with them.

JSON holds every field under the name it has in the dataclass, `schema` (a whole number that
rises when a field goes or changes its meaning; 2: a number that could not be measured is null;
3: the tolerance of a margin is that of its two rows, bits per byte of a run count predicted bytes;
4: rows are `undertrained`, no longer `never_trained`),
and `definitions`: what each number is, its unit and what it does not say, by dotted path.
"""

import dataclasses
import math
import typing
from typing import Any

SCHEMA = 4
WORDS = ("definition", "unit", "caution")
"""What a field made by `measure` says of itself."""


def as_dict(report: Any) -> dict[str, Any]:
    """A report dataclass as nested dicts, with schema and definitions."""
    return {
        "schema": SCHEMA,
        **strict(dataclasses.asdict(report)),
        "definitions": definitions(type(report)),
    }


def strict(value: Any) -> Any:
    """Plain data with None for every number that JSON has no form for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: strict(part) for key, part in value.items()}
    if isinstance(value, list):
        return [strict(part) for part in value]
    return value


def definitions(cls: type, prefix: str = "") -> dict[str, dict[str, str]]:
    """Every measured field below a report class: dotted path -> definition, unit, caution.

    Elements of a list are addressed by `[]`, as in `output.anisotropy[].layer`.
    """
    found: dict[str, dict[str, str]] = {}
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        path = prefix + field.name
        found[path] = {key: field.metadata[key] for key in WORDS if field.metadata.get(key)}
        for inner, brackets in records(hints[field.name]):
            found |= definitions(inner, f"{path}{brackets}.")
    return found


def records(hint: Any, brackets: str = "") -> list[tuple[type, str]]:
    """The dataclasses inside a type hint, with one `[]` for each list around them."""
    if dataclasses.is_dataclass(hint):
        return [(typing.cast(type, hint), brackets)]
    deeper = brackets + ("[]" if typing.get_origin(hint) is list else "")
    return [found for part in typing.get_args(hint) for found in records(part, deeper)]
