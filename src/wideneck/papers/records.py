"""JSON back into the dataclasses that it was written from."""

from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

Record = TypeVar("Record")


def record(kind: type[Record], content: Any) -> Record:
    """Read one dataclass, with the dataclasses, lists and dicts inside it.

    Raises:
        TypeError: a field is missing, unknown, or of another kind than it is declared to be.
    """
    if not isinstance(content, dict):
        raise TypeError(f"{kind.__name__} is no {type(content).__name__}")
    hints = get_type_hints(kind)
    known = {field.name: hints[field.name] for field in fields(cast(Any, kind))}
    return kind(**{k: _value(known[k], v) if k in known else v for k, v in content.items()})


def _value(hint: Any, value: Any) -> Any:
    origin, inside = get_origin(hint), get_args(hint)
    if origin is UnionType:  # X | None
        if value is None and type(None) in inside:
            return None
        (hint,) = (kind for kind in inside if kind is not type(None))
        return _value(hint, value)
    if origin is list and isinstance(value, list):
        return [_value(inside[0], one) for one in value]
    if origin is dict and isinstance(value, dict):
        return {k: _value(inside[1], one) for k, one in value.items()}
    if is_dataclass(hint):
        return record(cast(type, hint), value)
    wanted = (int, float) if hint is float else hint
    if hint is not Any and not isinstance(value, wanted):
        raise TypeError(f"{value!r} is no {hint}")
    return value
