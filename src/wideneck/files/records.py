"""Typed records in JSON of ours: each key is there and of its kind, or one sentence names it."""

from typing import Any, TypeVar

import msgspec

from wideneck.errors import WideneckError

Record = TypeVar("Record")


def record(
    kind: type[Record], content: Any, name: str, mend: str, *, exact: bool = False
) -> Record:
    """Read a dataclass or a Struct, with those inside it, from what JSON holds.

    Args:
        kind: its class.  What a Struct leaves out it lets by, unless it forbids unknown fields.
        content: as `json.loads` gives it.
        name: what messages call the file.
        mend: what to do, as the message's last clause.
        exact: whether a key that is no field is refused, of dataclasses that leave nothing out.

    Raises:
        WideneckError: a key is missing or of another kind.
    """
    try:
        found = msgspec.convert(content, kind)
        unknown = _unknown(content, msgspec.to_builtins(found), "$") if exact else None
        if unknown is not None:
            raise msgspec.ValidationError(f"Object contains unknown field `{unknown}`")
    except msgspec.ValidationError as error:
        raise WideneckError(f"{name} is not as wideneck writes it ({error}): {mend}.") from None
    return found


def _unknown(given: Any, known: Any, path: str) -> str | None:
    """The first key that was given and is no field."""
    if isinstance(given, dict):
        pairs = ((f"{path}.{key}", key, given[key]) for key in given)
    elif isinstance(given, list):
        pairs = ((f"{path}[{i}]", i, one) for i, one in enumerate(given))
    else:
        return None
    for place, key, one in pairs:
        if isinstance(known, dict) and key not in known:
            return place
        found = _unknown(one, known[key], place)
        if found is not None:
            return found
    return None
