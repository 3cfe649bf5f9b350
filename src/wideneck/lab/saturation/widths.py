"""The models of each width over seeds: the course of the losses and of the output layer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wideneck.audits.measure import measure
from wideneck.lab.saturation.family_run import FamilyRun, Measured
from wideneck.lab.saturation.loss_table import LossRow
from wideneck.lab.spread import Paired, Spread, paired, spread

Of = Callable[[FamilyRun], float]


def best(run: FamilyRun) -> Measured:
    """Where the held-out loss is lowest."""
    return min(run.measured, key=lambda one: one.checkpoint.loss)


def lowest_entropy(run: FamilyRun) -> Measured:
    """Where the singular entropy is lowest once training is under way."""
    return min(run.measured[1:], key=lambda one: one.checkpoint.kl_sigma2)


FIGURES: dict[str, Of] = {
    "best_loss": lambda run: best(run).checkpoint.loss,
    "best_step": lambda run: best(run).checkpoint.step,
    "best_train_loss": lambda run: best(run).train_loss,
    "final_loss": lambda run: run.measured[-1].checkpoint.loss,
    "final_train_loss": lambda run: run.measured[-1].train_loss,
    "kl_sigma2_lowest": lambda run: lowest_entropy(run).checkpoint.kl_sigma2,
    "kl_sigma2_lowest_step": lambda run: lowest_entropy(run).checkpoint.step,
    "kl_sigma2_best": lambda run: best(run).checkpoint.kl_sigma2,
    "kl_sigma2": lambda run: run.measured[-1].checkpoint.kl_sigma2,
    "kl_sigma2_share": lambda run: run.measured[-1].checkpoint.kl_sigma2_share,
    "kl_sigma2_centred": lambda run: run.measured[-1].checkpoint.kl_sigma2_centred,
    "second_value": lambda run: run.measured[-1].checkpoint.second_value,
    "second_value_centred": lambda run: run.measured[-1].checkpoint.second_value_centred,
    "mean_row_share": lambda run: run.measured[-1].checkpoint.mean_row_share,
    "anisotropy_best": lambda run: best(run).checkpoint.anisotropy,
    "anisotropy": lambda run: run.measured[-1].checkpoint.anisotropy,
    "anisotropy_centred": lambda run: run.measured[-1].checkpoint.anisotropy_centred,
    "tokens_per_second": lambda run: run.tokens_per_second,
}
"""Of the last measurement, where the name does not say otherwise."""


@dataclass(frozen=True, kw_only=True)
class Width:
    """All models of one width."""

    width: int = measure("hidden size d")
    num_parameters: int = measure("all parameters, embeddings and output layer included")
    num_embedding_parameters: int = measure("those of the embeddings and of the output layer")
    learning_rate: float = measure("the highest, after the warmup")
    figures: dict[str, Spread] = measure(
        "figures of the last measurement, or of the one with the lowest held-out loss (best_) or "
        "singular entropy (kl_sigma2_lowest)"
    )
    rise: Paired = measure(
        "final held-out loss less the lowest, seed by seed",
        unit="nats per token",
        caution="the lowest of several measurements, so never below 0; a training loss that goes "
        "on falling meanwhile says overfitting, which is not what the paper calls saturation",
    )
    train_fall: Paired = measure(
        "training loss at the lowest held-out loss less the final one, seed by seed",
        unit="nats per token",
    )


def summarize(runs: Sequence[FamilyRun]) -> list[Width]:
    """Each width, rising."""
    found = []
    for width in sorted({run.width for run in runs}):
        some = [run for run in runs if run.width == width]
        found.append(
            Width(
                width=width,
                num_parameters=some[0].num_parameters,
                num_embedding_parameters=some[0].num_embedding_parameters,
                learning_rate=some[0].learning_rate,
                figures={name: spread([of(run) for run in some]) for name, of in FIGURES.items()},
                rise=paired(
                    [r.measured[-1].checkpoint.loss - best(r).checkpoint.loss for r in some]
                ),
                train_fall=paired([best(r).train_loss - r.measured[-1].train_loss for r in some]),
            )
        )
    return found


def loss_rows(widths: Sequence[Width], tokens: int) -> list[LossRow]:
    """Lowest losses to fit a law on, and final ones beside it, for `scaling.fit_law`."""
    return [
        LossRow(
            name=f"d = {width.width}, {when}",
            num_parameters=width.num_parameters,
            num_embedding_parameters=width.num_embedding_parameters,
            tokens=tokens,
            loss=width.figures[f"{when}_loss"].mean,
            fitted=when == "best",
        )
        for when in ("best", "final")
        for width in widths
    ]
