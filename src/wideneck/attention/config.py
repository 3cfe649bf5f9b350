"""The registry of attention normalizers.  Imports no torch.

`NORMALIZERS` is the one list of what exists: `normalize`, `use`, the command line, the saved config
of a model, the test matrix and the table in the docs are all read off it.
"""

from dataclasses import fields
from typing import Any

from wideneck.attention.by_key import ReLU as ReLU
from wideneck.attention.by_key import Sigmoid as Sigmoid
from wideneck.attention.by_key import StickBreaking as StickBreaking
from wideneck.attention.entmaxes import ASEntmax as ASEntmax
from wideneck.attention.entmaxes import Entmax as Entmax
from wideneck.attention.entmaxes import Entmax15 as Entmax15
from wideneck.attention.entmaxes import Sparsemax as Sparsemax
from wideneck.attention.normalizer import Normalizer as Normalizer
from wideneck.attention.softmaxes import LogN as LogN
from wideneck.attention.softmaxes import Sink as Sink
from wideneck.attention.softmaxes import Softmax as Softmax
from wideneck.attention.softmaxes import Softmax1 as Softmax1
from wideneck.attention.softmaxes import SSMax as SSMax
from wideneck.attention.softmaxes import Temperature as Temperature
from wideneck.attention.softmaxes import TopK as TopK
from wideneck.registry import as_number, configure
from wideneck.registry import name_of as name_of

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
