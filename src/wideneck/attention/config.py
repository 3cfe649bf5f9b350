"""The registry of attention normalizers.  Imports no torch.

`NORMALIZERS` is the one list of what exists: `normalize`, `use`, the command line, the saved config
of a model, the test matrix and the table in the docs are all read off it.
"""

from dataclasses import fields
from typing import Any

from wideneck.attention.by_key import ReLU, Sigmoid, StickBreaking
from wideneck.attention.entmaxes import ASEntmax, Entmax, Entmax15, Sparsemax
from wideneck.attention.foils import AdaptiveTemperature, Softpick
from wideneck.attention.normalizer import Normalizer
from wideneck.attention.softmaxes import LogN, Sink, Softmax, Softmax1, SSMax, Temperature, TopK
from wideneck.registry import as_number, configure, name_of

NORMALIZERS: dict[str, Normalizer] = {
    kind.name: kind()
    for kind in (
        Softmax,
        Temperature,
        Softmax1,
        Sink,
        SSMax,
        LogN,
        TopK,
        Sparsemax,
        Entmax15,
        Entmax,
        ASEntmax,
        Sigmoid,
        ReLU,
        StickBreaking,
        AdaptiveTemperature,
        Softpick,
    )
}
"""Every normalizer by name, with its defaults."""


def normalizer_config(normalizer: "str | dict | Normalizer", **options: Any) -> Normalizer:
    """A normalizer's config by name, from its dictionary, or as it is; options replace its fields.

    Raises:
        WideneckError: an unknown name or option (with the nearest known one), a value out of range.
    """
    return configure(normalizer, options, NORMALIZERS, "normalizer", name_of=name_of)


def to_dict(config: Normalizer) -> dict[str, Any]:
    """The config as TOML and JSON hold it: its name and every field; `normalizer_config` reads it.

    Numbers given as tensors become numbers; None is left out.

    Raises:
        WideneckError: a tensor of several numbers.
    """
    result: dict[str, Any] = {"name": name_of(config)}
    for field in fields(config):
        value = as_number(name_of, config, field.name)
        if value is not None:
            result[field.name] = value
    return result


def names() -> list[str]:
    """Every normalizer by name."""
    return list(NORMALIZERS)
