"""Settings and normalizers as the command line gives them.  Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from wideneck.attention.config import Normalizer, normalizer_config
from wideneck.audits.attention.settings import AttentionSettings
from wideneck.errors import WideneckError
from wideneck.evaluation.config import SIZE, DynamicEvaluation
from wideneck.files.text_file import size_in_bytes
from wideneck.registry import check_count, check_option, did_you_mean

CONTEXTS = 2048
"""Rows of a matrix of log-probabilities where nobody says otherwise, as in an audit."""


@dataclass(frozen=True, kw_only=True)
class Besides:
    """What `wideneck evaluate` measures besides the perplexity; None: not asked for."""

    dynamic: DynamicEvaluation | None = None
    cache_size: int | None = None
    num_contexts: int | None = None


def attention_settings(pairs: Sequence[str]) -> AttentionSettings:
    """From NAME=VALUE pairs such as "context=1024", "num_queries=all", "sizes=1,5,10".

    Raises:
        WideneckError: an unknown name, or a value that is not of its kind.
    """
    known = {field.name: field.default for field in fields(AttentionSettings)}
    return AttentionSettings(**_settings(pairs, known, "the attention section"))


def normalizer_option(text: str) -> Normalizer:
    """From NAME or NAME:FIELD=VALUE,FIELD=VALUE, such as "topk:k=32".

    Raises:
        WideneckError: an unknown name or field, or a value that is not a number.
    """
    name, _, rest = text.partition(":")
    default = normalizer_config(name)
    numbers = {f.name: getattr(default, f.name) for f in fields(default)}
    known = {field: 0.0 if number is None else number for field, number in numbers.items()}
    return normalizer_config(name, **_settings(_parts(rest), known, f"normalizer '{name}'"))


def besides_option(texts: Sequence[str]) -> Besides:
    """From NAME or NAME:SETTING=VALUE,SETTING=VALUE, such as "neural-cache:size=500".

    "dynamic:scaling=old" starts from the numbers of the papers, which belong to that scaling.

    Raises:
        WideneckError: an unknown name or setting, or a value that is not of its kind.
    """
    found = Besides()
    for text in texts:
        name, _, rest = text.partition(":")
        if name not in _BESIDES:
            raise WideneckError(
                f"Nothing that an evaluation measures besides is called '{name}'."
                f"{did_you_mean(name, list(_BESIDES))}"
            )
        default = _BESIDES[name]
        given = _settings(_parts(rest), default, f"'{name}'")
        if name == "dynamic":
            old = given.get("scaling") == "old"
            start = DynamicEvaluation.published() if old else DynamicEvaluation()
            found = replace(found, dynamic=replace(start, **given))
        elif name == "neural-cache":
            found = replace(found, cache_size=(default | given)["size"])
            check_count(lambda _: "neural-cache", found, "cache_size", 1)
        else:
            found = replace(found, num_contexts=(default | given)["num_contexts"])
            check_count(lambda _: "ranks", found, "num_contexts", 1)
    return found


def placement_options(typed: Mapping[str, Any]) -> dict[str, Any]:
    """What `audit` and `evaluate` take of `PLACES`, from what was typed; None is left out.

    Raises:
        WideneckError: memory that is no size, or a batch that is no number.
    """
    given = {name: value for name, value in typed.items() if value is not None}
    if "max_memory" in given:
        pairs = [pair.partition("=") for pair in given["max_memory"]]
        names = [device for device, _, _ in pairs]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise WideneckError(f"--max-memory {twice} came more than once: give it once.")
        given["max_memory"] = {
            int(device) if device.isdecimal() else device: size_in_bytes(size, "--max-memory")
            for device, _, size in pairs
        }
    if given.get("batch", "auto") != "auto":
        given["batch"] = _value("batch", given["batch"], 1)
    return given


_BESIDES: dict[str, dict[str, Any]] = {
    "dynamic": asdict(DynamicEvaluation()),
    "neural-cache": {"size": SIZE},
    "ranks": {"num_contexts": CONTEXTS},
}


def _parts(text: str) -> list[str]:
    return text.split(",") if text else []


def _settings(pairs: Sequence[str], known: dict[str, Any], where: str) -> dict[str, Any]:
    """NAME=VALUE pairs as values of the kinds of those that are known by these names."""
    given = {}
    for name, text in map(_pair, pairs):
        check_option(name, list(known), where)
        given[name] = _value(name, text, known[name])
    return given


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
