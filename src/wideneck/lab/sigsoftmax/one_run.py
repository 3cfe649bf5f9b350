"""One head with one seed: trained by its recipe, then measured on the test text."""

from dataclasses import dataclass
from pathlib import Path

from wideneck.audits.measure import measure
from wideneck.audits.output.head_ranks import log_prob_ranks
from wideneck.data import encode_corpus, read_corpus
from wideneck.errors import WideneckError
from wideneck.evaluation import spread_contexts
from wideneck.lab.jobs import Show
from wideneck.training.folder import METRICS
from wideneck.training.loop import perplexity
from wideneck.training.metrics import read_metrics, train_again
from wideneck.training.recipe import Recipe
from wideneck.training.run import run
from wideneck.training.saved_run import load_run

TRAINING = 0.9
"""Share of a run's progress that is training."""
OF_TRAINING = ("num_parameters", "valid_loss", "epochs", "tokens")
OF_TRAINING += ("tokens_per_second", "seconds", "versions")
OF_RANKS = ("effective_1e3", "effective_1e4", "effective_1e5", "num_contexts")
OF_RANKS += ("mean_logit", "sd_logit", "share_curved")


@dataclass(frozen=True, kw_only=True)
class Run:
    """What was found of one arm with one seed.  Losses are in nats per token."""

    arm: str = measure("the head")
    seed: int = measure("counted from the recipe's own")
    num_parameters: int = measure("numbers that training changes, a tied matrix once")
    valid_loss: float = measure("loss of the best weights on the validation text", unit="nats")
    test_loss: float = measure(
        "of the same weights on the test text, or the validation loss where there is none",
        unit="nats",
    )
    test_perplexity: float = measure("exp(test_loss)")
    train_loss: float = measure(
        "mean over the last line of metrics, with every dropout on", unit="nats"
    )
    rank: int = measure(
        "numerical rank of the matrix of log-probabilities (Press et al. 2007, epsilon of float32)",
        caution="depends on the tolerance and on the number of contexts",
    )
    rank_bound: int = measure("largest rank that this head can have over `num_contexts` contexts")
    effective_1e3: int = measure("fewest squared singular values that sum to 1 - 1e-3 of all")
    effective_1e4: int = measure("the same for 1 - 1e-4")
    effective_1e5: int = measure("the same for 1 - 1e-5")
    num_contexts: int = measure(
        "rows of that matrix: at equal distances over the test text, at the paper's scale the first"
    )
    singular_values: list[float] = measure("its largest singular values")
    mean_logit: float = measure("mean score before the activation")
    sd_logit: float = measure("its standard deviation")
    share_curved: float = measure("share of scores between -5 and 5, where a sigsoftmax is bent")
    learned: dict[str, float] = measure("learned numbers of the activation at the end")
    epochs: float = measure("passes over the training text")
    tokens: int = measure("predictions in training")
    tokens_per_second: float = measure(
        "of training, validation included",
        caution="with other runs beside it, one thread each: a ratio between arms, not a speed",
    )
    seconds: float = measure("training and validation", unit="seconds")
    versions: dict[str, str] = measure("software")


@dataclass(frozen=True)
class _Line:
    """What is read of a line of metrics; that of an evaluation has no training loss."""

    loss: float | None = None


def train_and_measure(
    arm: str,
    seed: int,
    recipe: Recipe,
    folder: Path,
    num_contexts: int,
    show: Show,
    *,
    contexts_are_first: bool = False,
) -> Run:
    """Train in a folder, or read the run that is finished there, then measure.

    Args:
        contexts_are_first: take the first contexts of the test text in one row, as Parthiban et al.
            do, not some of all of it.

    Raises:
        WideneckError: as `wideneck.training.run`.
    """
    metrics = folder / METRICS
    result = run(recipe, folder, show=lambda share, loss, speed: show(TRAINING * share))
    losses = [line.loss for line in read_metrics(metrics, _Line) if line.loss is not None]
    if not losses:
        raise WideneckError(f"{metrics} holds no training loss: {train_again(folder)}.")
    model, schedule = load_run(folder).model, recipe.training
    corpus = encode_corpus(read_corpus(recipe.data.text), recipe.data)
    split = corpus.test or corpus.valid
    ids = split.ids[: schedule.evaluation_tokens]
    size = schedule.evaluation_batch_size
    if contexts_are_first:
        ids, size = ids[: num_contexts + 1], 1
    contexts = spread_contexts(model, ids, num_contexts, batch_size=size)
    test_loss = result.get("test_loss", result["valid_loss"])
    ranks = log_prob_ranks(model.head, contexts, num_contexts=num_contexts)
    assert ranks.press is not None
    return Run(
        arm=arm,
        seed=seed,
        **{name: result[name] for name in OF_TRAINING},
        **{name: getattr(ranks, name) for name in OF_RANKS},
        test_loss=test_loss,
        test_perplexity=perplexity(test_loss),
        train_loss=losses[-1],
        rank=ranks.press,
        rank_bound=ranks.bound,
        singular_values=[float(f"{x:.6g}") for x in ranks.singular_values[:1024]],  # for a plot
        learned={
            name: value.item()
            for name, value in model.head.activation.named_parameters()
            if value.numel() == 1
        },
    )
