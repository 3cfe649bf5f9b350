"""What is run: heads, recipes and how each run is measured.

The paper's scale has its recipes for Penn Treebank and WikiText-2, told apart by the counts of the
text; the small scale has one recipe for an LSTM and one for a transformer, on any text.
"""

import itertools
from dataclasses import dataclass, replace
from typing import Any

from wideneck import config as c
from wideneck.errors import WideneckError
from wideneck.models.small.config import AwdLstm, Transformer
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
"""Of training, 0.16 epochs of WikiText-2: some 300 steps."""
WIKITEXT2 = "datasets:Salesforce/wikitext:wikitext-2-v1"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that finished runs must share to stand in one table; the seeds are not among it."""

    scale: str
    data: str
    """"PTB", "WikiText-2", or the text's name."""
    text: str | None
    recipes: dict[str, Recipe]
    """Of each arm."""
    num_contexts: int
    """Rows of the matrix whose rank is measured."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "paper": "sigsoftmax",
            "scale": self.scale,
            "data": self.data,
            "num_contexts": self.num_contexts,
            "recipes": {name: recipe.to_dict() for name, recipe in self.recipes.items()},
        }


def single_heads(bend: float, slope: float, num_knots: int) -> dict[str, c.HeadConfig]:
    """Every head with one output matrix, by the name of its arm; MoC among them, for its rank."""
    return {
        "softmax": c.Softmax(),
        "softmax x 1.5": c.ScaledSoftmax(scale=1.5, learned=False),
        "softmax x 2": c.ScaledSoftmax(scale=2.0, learned=False),
        "softmax x learned": c.ScaledSoftmax(),
        "sigsoftmax": c.Sigsoftmax(),
        "ReLU": c.ReLU(),
        "sigmoid": c.Sigmoid(),
        "GSS": c.GSS(bend=bend, slope=slope),
        "PLIF": c.PLIF(num_knots=num_knots),
    }


def mixtures(num_components: int, dropout: float) -> dict[str, c.HeadConfig]:
    """The mixture of contexts, of softmaxes and of sigsoftmaxes."""
    shared = {"num_components": num_components, "dropout": dropout}
    return {
        "MoC": c.MoC(**shared),
        "MoS": c.Mixture(**shared),
        "MoSS": c.Mixture(activation=c.Sigsoftmax(), **shared),
    }


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
    schedule = replace(base.training, epochs=epochs, evaluate_every=epochs)
    base = replace(base, training=schedule)
    heads = single_heads(bend=-1.5, slope=2.5, num_knots=1000) | mixtures(4, 0.0)
    recipes = {name: replace(base, head=head) for name, head in heads.items()}
    recipes[MATCHED] = _matched(base, recipes["MoS"], min(VOCABULARY, num_words))
    return Settings(scale="small", data=data, text=text, recipes=recipes, num_contexts=2048)


def paper(text: str | None, data: str) -> Settings:
    """The paper's scale: "PTB" or "WikiText-2", days on a GPU for all heads and seeds."""
    name = {"PTB": "ptb", "WikiText-2": "wikitext2"}[data]
    single = read_recipe(shipped(f"sigsoftmax-{name}"), text=text)
    mixture = read_recipe(shipped(f"sigsoftmax-{name}-mixture"), text=text)
    slope = {"PTB": 2.5, "WikiText-2": 3.0}[data]
    recipes = {
        arm: replace(single, head=head)
        for arm, head in single_heads(bend=-1.5, slope=slope, num_knots=100_000).items()
    }
    recipes |= {arm: replace(mixture, head=head) for arm, head in mixtures(15, 0.29).items()}
    vocab_size = single.data.expect["vocab_size"]
    recipes[MATCHED] = _matched(mixture, mixture, vocab_size)
    contexts = {"PTB": 82_430, "WikiText-2": 33_320}[data]
    return Settings(scale="paper", data=data, text=text, recipes=recipes, num_contexts=contexts)


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """The recipe's own seed first, and then the ones after it."""
    return replace(recipe, seed=recipe.seed + seed)


def _matched(base: Recipe, mixture: Recipe, vocab_size: int) -> Recipe:
    """A softmax on a model that is wider by as much as the mixture's parameters, or just more.

    An LSTM gets a wider embedding, and with it a wider output matrix, as in Parthiban et al.; a
    transformer, whose width its heads divide, wider layers between.
    """
    from wideneck.lab.sigsoftmax.counting import num_parameters

    wanted = num_parameters(mixture, vocab_size)
    recipe = _widened(base, 0)
    for more in itertools.count():
        recipe = _widened(base, more)
        if num_parameters(recipe, vocab_size) >= wanted:
            break
    return recipe


def _widened(recipe: Recipe, more: int) -> Recipe:
    """With a softmax, and so much wider."""
    model = recipe.model
    if isinstance(model, AwdLstm):
        model = replace(model, embedding_size=model.embedding_size + more, last_size=None)
    elif isinstance(model, Transformer):
        inner = model.options["intermediate_size"] + more
        model = replace(model, options={**model.options, "intermediate_size": inner})
    return replace(recipe, head=c.Softmax(), model=model)


def data_of(counts: dict[str, int]) -> str | None:
    """Which of the paper's texts has these counts, "PTB" or "WikiText-2"; None for neither."""
    for name in ("ptb", "wikitext2"):
        expect = read_recipe(shipped(f"sigsoftmax-{name}")).data.expect
        if all(counts.get(key) == value for key, value in expect.items()):
            return {"ptb": "PTB", "wikitext2": "WikiText-2"}[name]
    return None
