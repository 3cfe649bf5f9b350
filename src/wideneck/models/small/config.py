"""Every language model that a recipe trains, as a frozen dataclass.  Imports no torch.

`MODELS` is the list of them by name; `model_config` reads one as a recipe's [model] table holds it.
"""

import re
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeAlias

from wideneck.errors import WideneckError
from wideneck.registry import (
    INFINITY,
    LARGEST_COUNT,
    LARGEST_NUMBER,
    check_count,
    check_flag,
    check_number,
    configure,
    name_in,
    shown,
)

WIDEST = 2**20
"""A width, or positions, at most; the largest models have some ten thousand of the one, and a
million of the other."""
DEEPEST = 1000
"""Layers, or experts in one, at most."""
REPEATED = re.compile("layer|expert|block", re.IGNORECASE)
"""Names of options that say how many of something are built."""
STARTS = ("own", "random", "whitened")


def name_of(config: "ModelConfig") -> str:
    """The name in `MODELS` of a config's kind."""
    return name_in(MODELS, config)


@dataclass(frozen=True, kw_only=True)
class AwdLstm:
    """AWD-LSTM: stacked LSTMs, regularized at every place.  The defaults are the paper's.

    In brackets the names that salesforce/awd-lstm-lm and zihangdai/mos give the same numbers.
    """

    embedding_size: int = 400
    """Width E of the input embedding, and with it of a tied output matrix (emsize)."""
    hidden_size: int = 1150
    """Width of every LSTM but the last (nhid)."""
    last_size: int | None = None
    """Width of the last LSTM, which the head reads (nhidlast); None for embedding_size."""
    num_layers: int = 3
    """Number of LSTMs (nlayers)."""
    output_dropout: float = 0.4
    """Locked dropout of what the head reads (dropout)."""
    hidden_dropout: float = 0.3
    """Locked dropout between two LSTMs (dropouth)."""
    input_dropout: float = 0.65
    """Locked dropout of the embedded words (dropouti)."""
    embedding_dropout: float = 0.1
    """Chance that a word of the vocabulary is dropped wherever it occurs in a batch (dropoute)."""
    weight_dropout: float = 0.5
    """Chance that a recurrent weight is dropped for a whole segment (wdrop)."""
    activation_regularization: float = 2.0
    """Factor of the mean square of what the head reads, AR (alpha)."""
    temporal_regularization: float = 1.0
    """Factor of the mean square of its change from one token to the next, TAR (beta)."""
    tied: bool = True
    """Whether the head's output matrix is the input embedding."""
    bias: bool = True
    """Whether the head has a bias for every token (the decoder's)."""

    paper: ClassVar[str] = "Merity, Keskar & Socher 2018, arXiv:1708.02182"

    def __post_init__(self):
        for name in ("embedding_size", "hidden_size"):
            check_count(name_of, self, name, 1, WIDEST)
        check_count(name_of, self, "num_layers", 1, DEEPEST)
        if self.last_size is not None:
            check_count(name_of, self, "last_size", 1, WIDEST)
        for name in (f.name for f in fields(self) if f.name.endswith("_dropout")):
            check_number(name_of, self, name)
            if not 0 <= getattr(self, name) < 1:
                raise WideneckError(
                    f"{name_of(self)} needs 0 <= {name} < 1, got {getattr(self, name)}."
                )
        for name in ("activation_regularization", "temporal_regularization"):
            check_number(name_of, self, name, least=0)
        check_flag(name_of, self, "tied")
        check_flag(name_of, self, "bias")


@dataclass(frozen=True, kw_only=True)
class Transformer:
    """A decoder of any architecture that transformers knows, with fresh weights."""

    architecture: str = "gpt2"
    """The model type, as a config.json of transformers names it."""
    context: int = 128
    """Tokens of a window, which is read by itself; there are as many positions."""
    options: dict[str, Any] = field(default_factory=dict)
    """Fields of the architecture's config, such as {"n_embd": 64, "n_layer": 2, "n_head": 2}."""
    tied: bool = True
    """Whether the head's output matrix is the input embedding."""
    bias: bool = False
    """Whether the head has a bias for every token."""

    def __post_init__(self):
        if not isinstance(self.architecture, str):
            raise WideneckError(
                "transformer needs the name of a model type for architecture, got "
                f"{shown(self.architecture)}."
            )
        check_count(name_of, self, "context", 1, WIDEST)
        if not isinstance(self.options, dict) or not all(isinstance(k, str) for k in self.options):
            raise WideneckError(
                "transformer needs a table of a config's fields for options, got "
                f"{shown(self.options)}."
            )
        _check_options(self.options)
        check_flag(name_of, self, "tied")
        check_flag(name_of, self, "bias")


def _check_options(options: dict[str, Any]) -> None:
    """Bounds on what a config of transformers makes lists of, or builds one by one."""
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if value < 0 and (REPEATED.search(name) or name.endswith("_token_id")):
            raise WideneckError(f"transformer needs a number >= 0 for {name}, got {shown(value)}.")
        several = DEEPEST if REPEATED.search(name) else LARGEST_COUNT
        most = several if isinstance(value, int) else LARGEST_NUMBER
        if most < abs(value) < INFINITY:  # what is not finite is refused with its own words
            raise WideneckError(
                f"transformer needs a number of at most {most:,} for {name}, got {shown(value)}."
            )


@dataclass(frozen=True, kw_only=True)
class States:
    """A head alone, on the cached hidden states of a Hugging Face model that stays as it is."""

    model: str | None = None
    """Hugging Face id, folder or file; None for the default model."""
    train_tokens: int = 200_704
    """Hidden states to train on, in whole windows spread over the training text."""
    valid_tokens: int = 20_480
    """Hidden states to validate on."""
    test_tokens: int = 0
    """Hidden states to test on."""
    window: int = 512
    """Tokens that the model reads at a time."""
    start: str = "own"
    """"own": the head starts from the model's output matrix; "random"; "whitened": a low_rank
    head starts from that matrix cut to its rank where the hidden states are white."""

    def __post_init__(self):
        if self.model is not None and not isinstance(self.model, str):
            raise WideneckError(
                f"states needs a Hugging Face id or a path for model, got {shown(self.model)}."
            )
        check_count(name_of, self, "train_tokens", 1)
        check_count(name_of, self, "valid_tokens", 1)
        check_count(name_of, self, "test_tokens", 0)
        check_count(name_of, self, "window", 2, WIDEST)
        for name in ("train_tokens", "valid_tokens", "test_tokens"):
            if getattr(self, name) % self.window:
                raise WideneckError(
                    f"states reads whole windows of {self.window} tokens, so {name} is a multiple "
                    f"of that, got {getattr(self, name)}."
                )
        if self.start not in STARTS:
            raise WideneckError(
                f"The start of a head on states is one of {', '.join(STARTS)}, got "
                f"{shown(self.start)}."
            )


ModelConfig: TypeAlias = AwdLstm | Transformer | States

MODELS: dict[str, ModelConfig] = {
    "awd_lstm": AwdLstm(),
    "transformer": Transformer(),
    "states": States(),
}
"""Every model by name, with its defaults."""


def model_config(given: str | dict | ModelConfig, /, **options: Any) -> ModelConfig:
    """A model's config by name, from its dictionary, or as it is; options replace its fields.

    Raises:
        WideneckError: an unknown name or option (with the nearest known one), a value out of range.
    """
    return configure(given, options, MODELS, "model", name_of=name_of)


def model_to_dict(config: ModelConfig) -> dict[str, Any]:
    """The config as TOML and JSON hold it: its name and every field; `model_config` reads it."""
    values = {f.name: getattr(config, f.name) for f in fields(config)}
    return {"name": name_of(config)} | {k: v for k, v in values.items() if v is not None}
