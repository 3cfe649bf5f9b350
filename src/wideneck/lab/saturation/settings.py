"""What is run: a family of models, heads of every rank on a frozen one, and n-grams of the text.

The small scale takes minutes on two cores.  The paper's is for GPUs and was never run here: Pythia
shapes of widths 128 to 1024 trained on `TOKENS` of a text that is given, read as often as it
takes (the paper: 300 billion tokens of the Pile, once), and heads on Pythia-410M or the model
given, started from its own output layer cut and at random (the paper: at random).
"""

from dataclasses import dataclass, replace
from typing import Any

from wideneck.config import LowRank, Softmax
from wideneck.errors import WideneckError
from wideneck.lab.saturation.ngrams import ORDERS
from wideneck.models.small.config import States, Transformer
from wideneck.recipes import shipped
from wideneck.training.optimizers import AdamW
from wideneck.training.recipe import Recipe
from wideneck.training.recipe_file import read_recipe

TOKENS = 300_000_000_000
"""How many the paper trains on."""
SHAPES = {
    "small": {width: (2, 4, 3e-3 * 64 / width) for width in (16, 32, 64, 128, 256)},
    "paper": {
        128: (6, 4, 1e-3),
        256: (6, 8, 1e-3),
        512: (6, 8, 1e-3),
        768: (12, 12, 6e-4),
        1024: (24, 16, 3e-4),
    },
}
"""Layers, attention heads and AdamW's rate by width; at the paper's scale those of the Pythias.

A small model's rate: of 1e-3, 3e-3 and 1e-2 the best on seed 0 at d = 64.  It goes with 1 / d,
which is also where one pass was best at d = 16 (1e-2 to 3e-2) and d = 256 (1e-3 before 3e-3)."""
PAPER_RANKS = (32, 64, 128, 256, 512, 768, 1024, 1536, 2048, 3072, 4096)
"""The ranks of Figure 6."""
RANDOM_RATES = ((768, 5e-3), (512, 7e-3), (64, 1e-2), (0, 2e-2))
"""The paper's on Pythias (Figure 9): the rate from each rank on; see `random_rate`."""
SCALES: dict[str, dict[str, Any]] = {
    "small": {
        "tokens": 327_680,
        "linear": 8,
        "train_tokens": 4096,
        "ranks": (8, 16, 32, 64, 128, 192, 288, 384, 432),
        "starts": ("whitened",),
        "ngram_tokens": 40_000,
        "tokenizers": ("default",),
    },
    "paper": {
        "tokens": TOKENS,
        "linear": 143,
        "train_tokens": 50_000,
        "ranks": PAPER_RANKS,
        "starts": ("whitened", "random"),
        "ngram_tokens": 100_000_000,
        "tokenizers": (),
    },
}
"""Fields of `Settings`."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that finished runs must share to stand in one table; the seeds are not among it."""

    scale: str
    tokens: int
    """Training tokens of every model of the family."""
    linear: int
    """Measurements at equal distances; powers of two before them."""
    train_tokens: int
    """Length of the start of the training text, on which the training loss is measured."""
    ranks: tuple[int, ...]
    """Those below the model's hidden size are trained, and it itself."""
    starts: tuple[str, ...]
    """How the heads of low rank start."""
    ngram_tokens: int
    """Length of the start of the training text, whose n-grams are counted."""
    tokenizers: tuple[str, ...]
    """By whose tokens they are counted, besides the family's."""
    orders: tuple[int, ...] = ORDERS
    family: dict[int, Recipe]
    """A recipe for each width; how many epochs its tokens are depends on the text."""
    heads: Recipe
    """The head of rank 64, from which `head_recipe` makes the others."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        family = {str(width): recipe.to_dict() for width, recipe in self.family.items()}
        heads = self.heads.to_dict()
        return {"paper": "saturation", **vars(self), "family": family, "heads": heads}


def settings(scale: str, model: str | None, text: str | None) -> Settings:
    """The small scale's settings, on any text, or the paper's, on a large text that is given.

    Args:
        scale: "small" or "paper".
        model: whose states the heads are trained on; None for the recipe's.
        text: as for `read_corpus`.

    Raises:
        WideneckError: the paper's scale without a text.
    """
    if scale == "paper" and text is None:
        raise WideneckError(
            "The paper's scale trains on a large text, which wideneck does not bring: give a file, "
            "a folder or datasets:NAME by --text, or leave out --scale paper."
        )
    family, heads = (
        read_recipe(shipped(f"saturation-{kind}{'-paper' if scale == 'paper' else ''}"), text=text)
        for kind in ("family", "heads")
    )
    assert isinstance(heads.model, States)
    if model is not None:
        heads = replace(heads, model=replace(heads.model, model=model))
    return Settings(
        scale=scale,
        family={width: _shaped(family, width, *shape) for width, shape in SHAPES[scale].items()},
        heads=heads,
        **SCALES[scale],
    )


def whitened_rate(rank: int) -> float:
    """AdamW's rate for a head that starts from the trained one.

    A line through what was best on seed 0 of rates apart by a factor of 4, after 48 steps of 128
    states of the default model: 1.3e-3 at rank 16 (1.3e-3 to 2.1e-2), 1.1e-3 at 128 (2.9e-4 to
    4.6e-3; the two lower ones 0.024 nats apart), 1.3e-4 for the softmax of rank 576 (3.1e-5 to
    5e-4).  Seed 0 is one of those that are reported, which the choice may flatter; a table says so.
    The rate falls with the rank faster than the paper's, which are for heads started at random.
    """
    return 5e-4 * (128 / rank) ** 0.7


def random_rate(rank: int) -> float:
    """The paper's for a head that starts at random."""
    return next(rate for least, rate in RANDOM_RATES if rank >= least)


def head_recipe(settings: Settings, rank: int, start: str, seed: int) -> Recipe:
    """The recipe of a head, with the rate of its rank and start; seeds count from its own.

    Args:
        rank: the hidden size for the softmax.
        start: "whitened" or "random", or "own" for the softmax.
    """
    base = settings.heads
    assert isinstance(base.model, States)
    assert isinstance(base.optimizer, AdamW)
    rate = random_rate(rank) if start == "random" else whitened_rate(rank)
    return replace(
        base,
        model=replace(base.model, start=start),
        head=Softmax() if start == "own" else LowRank(rank=rank),
        optimizer=replace(base.optimizer, learning_rate=rate),
        training=replace(base.training, evaluate_every=base.training.epochs),
        seed=base.seed + seed,
    )


def _shaped(base: Recipe, width: int, layers: int, heads: int, rate: float) -> Recipe:
    assert isinstance(base.model, Transformer)
    assert isinstance(base.optimizer, AdamW)
    options = base.model.options | {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
    }
    if "num_key_value_heads" in options:
        options["num_key_value_heads"] = heads
    model = replace(base.model, options=options)
    return replace(base, model=model, optimizer=replace(base.optimizer, learning_rate=rate))
