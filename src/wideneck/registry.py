"""What the registries of frozen dataclasses share: looking up, changing, checking.  No torch.

A registry is a dict of names to default configs; the config of a name is found by its type.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import Any

from wideneck.errors import WideneckError

INFINITY = float("inf")
LARGEST_NUMBER = 1e30
"""A number of a config at most: its square would still be one to float64, and float32 holds it."""
LARGEST_COUNT = 2**31 - 1
"""A count of a config at most, where no smaller bound is given."""
LONGEST = 100
"""Characters of a value that a message quotes, or bits of a number."""
NOT_A_TENSOR = int | float | complex | str | bytes | list | tuple | dict | None


def check_number(
    name_of: Callable[[Any], str],
    config: Any,
    name: str,
    *,
    least: float = -INFINITY,
    most: float = LARGEST_NUMBER,
    positive: bool = False,
    tensor: bool = False,
) -> None:
    """A finite number, of at least `least` or above 0; or a tensor where one may come.

    Its size is `most` at most, whatever its sign.
    """
    value = getattr(config, name)
    large = False
    if isinstance(value, int | float) and not isinstance(value, bool):
        good = -INFINITY < value < INFINITY and value >= least and (value > 0 or not positive)
        large = good and not -most <= value <= most
    else:  # a tensor is all else that may come; its value is not looked at, a graph may be traced
        good = tensor and not isinstance(value, NOT_A_TENSOR)
    if large:
        raise WideneckError(
            f"{name_of(config)} needs a number of at most {most:g} for {name}, got {shown(value)}."
        )
    if not good:
        bound = " > 0" if positive else "" if least == -INFINITY else f" >= {least:g}"
        raise WideneckError(
            f"{name_of(config)} needs a finite number{bound} for {name}, got {shown(value)}."
        )


def shown(value: Any) -> str:
    """A value as a message quotes it: Python writes no number of thousands of digits."""
    if isinstance(value, int) and value.bit_length() > LONGEST:
        return f"a whole number of {value.bit_length():,} bits"
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def as_number(name_of: Callable[[Any], str], config: Any, name: str) -> Any:
    """What JSON can hold of a field: the value, or the number of a tensor of one.

    Raises:
        WideneckError: a tensor of several numbers.
    """
    value = getattr(config, name)
    if isinstance(value, NOT_A_TENSOR):
        return value
    shape = tuple(getattr(value, "shape", ()))
    if any(size != 1 for size in shape):
        raise WideneckError(
            f"{name} of {name_of(config)} is a tensor of shape {shape}, of which a saved config "
            "can hold only a single number."
        )
    return value.item()


def check_flag(name_of: Callable[[Any], str], config: Any, name: str) -> None:
    """True or false."""
    value = getattr(config, name)
    if not isinstance(value, bool):
        raise WideneckError(f"{name_of(config)} needs true or false for {name}, got {value!r}.")


def check_count(
    name_of: Callable[[Any], str], config: Any, name: str, least: int, most: int = LARGEST_COUNT
) -> None:
    """A whole number of at least `least` and at most `most`."""
    value = getattr(config, name)
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < least:
        raise WideneckError(
            f"{name_of(config)} needs a whole number >= {least} for {name}, got {shown(value)}."
        )
    if value > most:
        raise WideneckError(
            f"{name_of(config)} needs a whole number of at most {most:,} for {name}, got "
            f"{shown(value)}."
        )


def name_of(config: Any) -> str:
    """The name of a config's kind in its registry."""
    return config.name


def name_in(known: dict[str, Any], config: Any) -> str:
    """The first name of a config's kind."""
    return next(name for name, default in known.items() if type(default) is type(config))


def did_you_mean(word: str, known: list[str]) -> str:
    """The nearest known word as a question, and all of them."""
    close = get_close_matches(word, known, n=1)
    question = f" Did you mean '{close[0]}'?" if close else ""
    return f"{question} Known: {', '.join(known) or 'none'}."


def check_option(option: str, known: list[str], owner: str) -> None:
    """Refuse the name of an option that `owner` does not have, with the nearest that it has."""
    if option not in known:
        raise WideneckError(
            f"No option of {owner} is called '{option}'.{did_you_mean(option, known)}"
        )


def configure(
    given: Any,
    options: dict,
    known: dict[str, Any],
    kind: str,
    *,
    name_of: Callable[[Any], str],
    convert: Callable[[dict], dict] = dict,
) -> Any:
    """A config by name, from its dictionary, or as it is; options replace its fields.

    Args:
        given: the name, the dictionary with its "name", or the config.
        options: values of fields.
        known: the registry.
        kind: what messages call one of them, such as "head".
        name_of: the name of a config.
        convert: what happens to known options before they are set.

    Raises:
        WideneckError: an unknown name or option (with the nearest known one), a value out of range.
    """
    if isinstance(given, dict):
        options = {**{str(k): v for k, v in given.items() if k != "name"}, **options}
        given = given.get("name")
        if given is None:
            raise WideneckError(
                f"A table without a name is no {kind}: give it one of {', '.join(known)}."
            )
    if isinstance(given, str):
        if given not in known:
            raise WideneckError(f"No {kind} is called '{given}'.{did_you_mean(given, list(known))}")
        given = known[given]
    elif not any(type(given) is type(default) for default in known.values()):
        raise WideneckError(
            f"Expected the name or config of one {kind}, got {type(given).__name__}. "
            f"Known: {', '.join(known)}."
        )
    names = [field.name for field in fields(given)]
    for option in options:
        check_option(option, names, f"{kind} '{name_of(given)}'")
    return replace(given, **convert(options)) if options else given
