"""What is run at each scale: a family of models, and heads, by recipes and the paper's TOML."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from wideneck.errors import WideneckError
from wideneck.lab.published import ours
from wideneck.lab.saturation.ngrams import ORDERS
from wideneck.models.small.config import States, Transformer
from wideneck.recipes import shipped
from wideneck.training.optimizers import AdamW
from wideneck.training.recipe import Recipe
from wideneck.training.recipe_file import read_recipe


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that finished runs must share to stand in one table; the seeds are not among it.

    Each number is explained where it stands, in lab/saturation.toml.
    """

    scale: str
    tokens: int
    linear: int
    train_tokens: int
    ranks: Sequence[int]
    starts: Sequence[str]
    ngram_tokens: int
    tokenizers: Sequence[str]
    orders: Sequence[int] = ORDERS
    family: dict[int, Recipe]
    """A recipe for each width; how many epochs its tokens are depends on the text."""
    heads: Recipe
    """From which `head_recipe` makes the others."""

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
    given = ours("saturation", "scale")[scale]
    base, heads = (read_recipe(shipped(name), text=text) for name in given.pop("recipes"))
    assert isinstance(base.model, Transformer)
    assert isinstance(base.optimizer, AdamW)
    assert isinstance(heads.model, States)
    if model is not None:
        heads = replace(heads, model=replace(heads.model, model=model))
    names, family = given.pop("of_family"), {}
    for rate, *values in given.pop("family"):
        options = base.model.options | dict(zip(names, values, strict=True))
        family[options["hidden_size"]] = replace(
            base,
            model=replace(base.model, options=options),
            optimizer=replace(base.optimizer, learning_rate=rate),
        )
    return Settings(scale=scale, family=family, heads=heads, **given)
