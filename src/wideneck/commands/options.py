"""Settings and normalizers as the command line gives them.  Imports no torch."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from wideneck.attention.config import Normalizer, normalizer_config
from wideneck.audits.attention.settings import AttentionSettings
from wideneck.errors import WideneckError
from wideneck.registry import check_option


def attention_settings(pairs: Sequence[str]) -> AttentionSettings:
    """From NAME=VALUE pairs such as "context=1024", "num_queries=all", "sizes=1,5,10".

    Raises:
        WideneckError: an unknown name, or a value that is not of its kind.
    """
    known = {field.name: field.default for field in fields(AttentionSettings)}
    given = {}
    for name, text in map(_pair, pairs):
        check_option(name, list(known), "the attention section")
        given[name] = _value(name, text, known[name])
    return AttentionSettings(**given)


def normalizer_option(text: str) -> Normalizer:
    """From NAME or NAME:FIELD=VALUE,FIELD=VALUE, such as "topk:k=32".

    Raises:
        WideneckError: an unknown name or field, or a value that is not a number.
    """
    name, _, rest = text.partition(":")
    default = normalizer_config(name)
    given = {}
    for field, value in map(_pair, rest.split(",") if rest else []):
        check_option(field, [f.name for f in fields(default)], f"normalizer '{name}'")
        known = getattr(default, field)
        given[field] = _value(field, value, 0.0 if known is None else known)
    return normalizer_config(name, **given)


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise WideneckError(f"Expected NAME=VALUE, got '{text}'.")
    return name.strip().replace("-", "_"), value.strip()


def _value(name: str, text: str, default: Any) -> Any:
    """`text` as the kind of thing that `default` is."""
    if isinstance(default, str):
        return text
    if isinstance(default, bool):
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise WideneckError(f"{name} is true or false, got '{text}'.")
    if name == "num_queries" and text == "all":
        return None
    kind = type(default[0]) if isinstance(default, tuple) else type(default)
    try:
        if isinstance(default, tuple):
            return tuple(kind(part) for part in text.split(","))
        return kind(text)
    except ValueError:
        what = {int: "a whole number", float: "a number"}[kind]
        several = " or several, with commas between" if isinstance(default, tuple) else ""
        raise WideneckError(f"{name} is {what}{several}, got '{text}'.") from None
