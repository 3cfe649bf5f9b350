"""What is run: heads, recipes and how each run is measured.

The paper's scale has its recipes for Penn Treebank and WikiText-2, told apart by the counts of the
text; the small scale has one recipe for an LSTM and one for a transformer, on any text.
"""

import itertools
from dataclasses import dataclass, replace
from typing import Any

import torch

from wideneck import config as c
from wideneck.errors import WideneckError
from wideneck.models.small.config import AwdLstm, States, Transformer
from wideneck.models.small.language_model import language_model
from wideneck.recipes import shipped
from wideneck.registry import did_you_mean
from wideneck.training.recipe import Recipe
from wideneck.training.recipe_file import read_recipe

MATCHED = "softmax, matched"
"""The control: a softmax as wide as it takes to have the parameters of the mixtures."""

SMALL_MODELS = ("lstm", "transformer")
VOCABULARY = 10_000
"""Words that the small recipes keep."""
SMALL_TOKENS = 334_180
"""Training tokens, 0.16 epochs of WikiText-2: some 300 steps."""
WIKITEXT2 = "datasets:Salesforce/wikitext:wikitext-2-v1"
PAPER = {
    "PTB": ("sigsoftmax-ptb", 2.5, 82_430),
    "WikiText-2": ("sigsoftmax-wikitext2", 3.0, 33_320),
}
"""Each text of the papers: its recipe, the slope of its GSS, and `num_contexts`."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that finished runs must share to stand in one table; the seeds are not among it."""

    scale: str
    data: str
    """"PTB", "WikiText-2", or the text's name."""
    num_contexts: int
    """Rows of the matrix whose rank is measured."""
    recipes: dict[str, Recipe]
    """The recipe of each arm."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        recipes = {name: recipe.to_dict() for name, recipe in self.recipes.items()}
        return {"paper": "sigsoftmax", **vars(self), "recipes": recipes}


def small(
    model: str | None, text: str | None, data: str, num_words: int, num_tokens: int
) -> Settings:
    """The small scale, on any text: every model sees `SMALL_TOKENS`.

    Args:
        model: "lstm", the default, or "transformer".
        text: as for `read_corpus`.
        data: what the text is called.
        num_words: different words of its training split.
        num_tokens: tokens of it.

    Raises:
        WideneckError: an unknown model.
    """
    model = SMALL_MODELS[0] if model is None else model
    if model not in SMALL_MODELS:
        raise WideneckError(
            f"At the small scale --model is one of {', '.join(SMALL_MODELS)}, got '{model}'."
            f"{did_you_mean(model, list(SMALL_MODELS))}"
        )
    base = read_recipe(shipped(f"sigsoftmax-small-{model}"), text=text)
    epochs = round(SMALL_TOKENS / num_tokens, 4)
    base = replace(base, training=replace(base.training, epochs=epochs, evaluate_every=epochs))
    mixture = {"num_components": 4, "dropout": 0.0}
    num_words = min(VOCABULARY, num_words)
    recipes = _arms(base, base, mixture, num_words, slope=2.5, num_knots=1000)
    return Settings(scale="small", data=data, recipes=recipes, num_contexts=2048)


def paper(text: str | None, data: str) -> Settings:
    """The paper's scale: "PTB" or "WikiText-2", days on a GPU for all heads and seeds."""
    name, slope, num_contexts = PAPER[data]
    single, mixed = (read_recipe(shipped(name + end), text=text) for end in ("", "-mixture"))
    mixture = {"num_components": 15, "dropout": 0.29}
    num_words = single.data.expect["vocab_size"]
    recipes = _arms(single, mixed, mixture, num_words, slope=slope, num_knots=100_000)
    return Settings(scale="paper", data=data, recipes=recipes, num_contexts=num_contexts)


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """The recipe's own seed first, and then the ones after it."""
    return replace(recipe, seed=recipe.seed + seed)


def data_of(counts: dict[str, int]) -> str | None:
    """Which of the paper's texts has these counts, "PTB" or "WikiText-2"; None for neither."""
    for name, (recipe, *_) in PAPER.items():
        expect = read_recipe(shipped(recipe)).data.expect
        if all(counts.get(key) == value for key, value in expect.items()):
            return name
    return None


def _arms(
    single: Recipe,
    mixed: Recipe,
    mixture: dict[str, Any],
    vocab_size: int,
    *,
    slope: float,
    num_knots: int,
) -> dict[str, Recipe]:
    """Every head with one output matrix, every mixture (MoC for its rank), and the control."""
    heads: dict[str, c.HeadConfig] = {
        "softmax": c.Softmax(),
        "softmax x 1.5": c.ScaledSoftmax(scale=1.5, learned=False),
        "softmax x 2": c.ScaledSoftmax(scale=2.0, learned=False),
        "softmax x learned": c.ScaledSoftmax(),
        "sigsoftmax": c.Sigsoftmax(),
        "ReLU": c.ReLU(),
        "sigmoid": c.Sigmoid(),
        "GSS": c.GSS(bend=-1.5, slope=slope),
        "PLIF": c.PLIF(num_knots=num_knots),
    }
    mixtures: dict[str, c.HeadConfig] = {
        "MoC": c.MoC(**mixture),
        "MoS": c.Mixture(**mixture),
        "MoSS": c.Mixture(activation=c.Sigsoftmax(), **mixture),
    }
    recipes = {arm: replace(single, head=head) for arm, head in heads.items()}
    recipes |= {arm: replace(mixed, head=head) for arm, head in mixtures.items()}
    return recipes | {MATCHED: _matched(mixed, recipes["MoS"], vocab_size)}


def _matched(base: Recipe, mixture: Recipe, vocab_size: int) -> Recipe:
    """A softmax on a model that is wider by as much as the mixture's parameters, or just more.

    An LSTM gets a wider embedding, and with it a wider output matrix, as in Parthiban et al.; a
    transformer, whose width its heads divide, wider layers between.
    """
    wanted = num_parameters(mixture, vocab_size)
    wider = (_widened(base, more) for more in itertools.count())
    return next(recipe for recipe in wider if num_parameters(recipe, vocab_size) >= wanted)


def _widened(recipe: Recipe, more: int) -> Recipe:
    """With a softmax, and wider by `more`."""
    model = recipe.model
    if isinstance(model, AwdLstm):
        model = replace(model, embedding_size=model.embedding_size + more, last_size=None)
    elif isinstance(model, Transformer):
        inner = model.options["intermediate_size"] + more
        model = replace(model, options={**model.options, "intermediate_size": inner})
    return replace(recipe, head=c.Softmax(), model=model)


def num_parameters(recipe: Recipe, vocab_size: int) -> int:
    """Numbers that training of a recipe's model changes, a tied matrix counted once.

    An AWD-LSTM is counted on the meta device, at no cost; transformers needs numbers to run on.
    """
    assert not isinstance(recipe.model, States)
    device = "meta" if isinstance(recipe.model, AwdLstm) else "cpu"
    with torch.device(device), torch.random.fork_rng(devices=[]):
        model = language_model(recipe.model, recipe.head, vocab_size=vocab_size)
    return model.num_parameters
