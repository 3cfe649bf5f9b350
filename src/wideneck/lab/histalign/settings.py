"""What is run: sizes, training and evaluation.

`SMALL` was chosen once, on seed 0, by looking at cross-entropy alone, and is the same for every
objective; `PAPER` is the paper's (its Table 8 and the released commands).
"""

from dataclasses import dataclass

from wideneck.errors import WideneckError
from wideneck.lab.ambiguous.splits import SPLITS
from wideneck.registry import did_you_mean


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A GPT-2 that is trained from scratch; input and output share their frozen matrix."""

    hidden_size: int
    num_layers: int
    num_heads: int


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How each objective is trained and measured.  AdamW, no decay, the rate falling to 0."""

    shape: Shape | None = None
    """None: a pretrained model is fine-tuned."""
    batch_size: int
    """Rows in each step of the optimizer."""
    micro_batch: int
    """Rows in each forward pass; the ranking loss is averaged over these."""
    num_steps: int | None = None
    """Optimizer's steps; None: `num_epochs`."""
    num_epochs: int | None = None
    learning_rate: float
    num_test_prompts: int = 4096
    """Distinct prompts of the test part, drawn by the seed; all where there are fewer."""
    num_rank_rows: int
    """Contexts N of the matrix whose rank is measured: every position of the first of them."""


SMALL = Recipe(
    shape=Shape(hidden_size=64, num_layers=2, num_heads=4),
    batch_size=32,
    micro_batch=32,
    num_steps=3000,
    learning_rate=2e-3,
    num_rank_rows=2048,
)
PAPER = Recipe(
    batch_size=256,
    micro_batch=32,
    num_epochs=5,
    learning_rate=1e-5,
    num_rank_rows=4750,
)
SCALES = {"small": SMALL, "paper": PAPER}
DEFAULT_MODEL = "gpt2"
"""The paper's scale has it: the GPT2-small of its Table 1."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that finished runs must share to stand in one table; the seeds are not among it."""

    scale: str
    model: str | None
    """Id or folder of a causal language model of Hugging Face; None: from scratch."""
    split: str
    recipe: Recipe
    words_sha256: str = ""
    """The hash of the analogies, once they are read."""


def settings(scale: str | None, model: str | None, split: str | None) -> Settings:
    """The settings of a command line, defaults filled in.

    Raises:
        WideneckError: an unknown split, or a model where one is made from scratch.
    """
    if scale is None:
        scale = "small" if model is None else "paper"
    if scale == "small" and model is not None:
        raise WideneckError(
            f"--scale small trains a small model of its own from scratch: leave out --model, or "
            f"fine-tune {model} by --scale paper."
        )
    if scale == "paper" and model is None:
        model = DEFAULT_MODEL
    split = next(iter(SPLITS)) if split is None else split
    if split not in SPLITS:
        raise WideneckError(f"No split is called '{split}'.{did_you_mean(split, list(SPLITS))}")
    return Settings(scale=scale, model=model, split=split, recipe=SCALES[scale])
