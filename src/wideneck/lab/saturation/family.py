"""One model of the family with one seed, trained by its recipe, and what is told of it on the way.

That is what Figures 1a, 4 and 5 of Godey et al. 2024 show.  W is the output layer, V x D; H the
hidden states that it multiplies on held-out text, N x D.  The paper measures W as stored.  A
softmax does not see the mean row, so everything comes centred too.
Cost: three products of (V + N) D^2 operations and four eigenvalue problems of D x D.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from wideneck.audits.geometry import measure_geometry
from wideneck.audits.measure import measure
from wideneck.audits.spectrum import Spectrum
from wideneck.data import encode_corpus, read_corpus
from wideneck.errors import WideneckError
from wideneck.files.records import record
from wideneck.lab.jobs import Show
from wideneck.models import evaluating
from wideneck.models.small.config import Transformer
from wideneck.models.small.language_model import LanguageModel
from wideneck.training.batches import Observation, WindowBatches, text_in_order
from wideneck.training.folder import METRICS
from wideneck.training.loop import mean_nll
from wideneck.training.metrics import read_metrics, train_again
from wideneck.training.recipe import Recipe
from wideneck.training.run import run

OBSERVED = "checkpoint"
"""Key of a measurement among the metrics."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One model at one step of its training, in plain numbers."""

    step: int = measure("optimizer's steps so far")
    loss: float = measure("mean -log p of held-out text", unit="nats per token")
    vocab_size: int = measure("rows V of the output layer", unit="tokens")
    hidden_size: int = measure("columns d of the output layer")
    kl_sigma2: float = measure(
        "singular entropy of the output layer as stored, KL(p || uniform), p_i = s_i^2 / "
        "sum_j s_j^2: Figure 5 of the paper",
        unit="nats",
        caution="its ceiling is log d, so widths do not compare; kl_sigma2_share does",
    )
    kl_sigma2_share: float = measure("kl_sigma2 / log d, between 0 and 1")
    kl_sigma2_centred: float = measure("the same with the mean row taken off", unit="nats")
    kl_sigma: float = measure("singular entropy with p_i = s_i / sum_j s_j", unit="nats")
    kl_sigma_centred: float = measure("the same with the mean row taken off", unit="nats")
    second_value: float = measure("s_1 / s_0 of the output layer as stored: Figure 4 of the paper")
    second_value_centred: float = measure("the same with the mean row taken off")
    mean_row_share: float = measure(
        "V ||mu||^2 / s_0^2, mu the mean row: how much of the largest squared singular value it "
        "explains; a softmax does not see it"
    )
    stable_rank: float = measure("||W||_F^2 / s_0^2 of the output layer as stored")
    stable_rank_centred: float = measure("the same with the mean row taken off")
    num_states: int = measure("hidden states N", unit="tokens")
    anisotropy: float = measure(
        "mean cosine of two different hidden states, exact over all pairs",
        caution="dominated by the mean state; a description, not a defect",
    )
    anisotropy_centred: float = measure("the same with the mean state taken off")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One model at one step."""

    epoch: float = measure("passes over the training text so far")
    train_loss: float = measure(
        "mean -log p of the start of the training text, on the weights of that step",
        unit="nats per token",
    )
    checkpoint: Checkpoint = measure("loss of held-out text, output layer and hidden states")


@dataclass(frozen=True, kw_only=True)
class FamilyRun:
    """One model over its training."""

    width: int = measure("hidden size d")
    seed: int = measure("counted from the recipe's own")
    num_parameters: int = measure("all parameters, embeddings and output layer included")
    num_embedding_parameters: int = measure("those of the embeddings and of the output layer")
    learning_rate: float = measure("the highest, after the warmup")
    measured: list[Measured] = measure("at steps of powers of two, then at equal distances")
    tokens: int = measure("predictions in training")
    epochs: float = measure("passes over the training text")
    tokens_per_second: float = measure(
        "of training", caution="with another run beside it, one thread each"
    )
    seconds: float = measure("training, without these measurements", unit="seconds")
    versions: dict[str, str] = measure("software")


def checkpoint_steps(num_steps: int, linear: int) -> list[int]:
    """0 and powers of two, then `linear` steps at equal distances, as Pythia's checkpoints."""
    spaced = {round(num_steps * k / linear) for k in range(1, linear + 1)}
    powers = {2**k for k in range(num_steps.bit_length()) if 2**k < num_steps / linear}
    return sorted({0} | powers | spaced)


def train_and_measure(
    width: int,
    seed: int,
    recipe: Recipe,
    tokens: int,
    linear: int,
    train_tokens: int,
    folder: Path,
    show: Show,
) -> FamilyRun:
    """Train in a folder, or read the run that is finished there, measured on the way.

    Args:
        seed: counts from the recipe's own.
        recipe: of a transformer, for as many epochs as `tokens` are of its text.
        tokens: training tokens.
        linear: measurements at equal distances (`checkpoint_steps`).
        train_tokens: length of the start of the training text, on which its loss is measured.

    Raises:
        WideneckError: as `wideneck.training.run`.
    """
    corpus = encode_corpus(read_corpus(recipe.data.text), recipe.data)
    train = corpus.train.ids[: train_tokens + 1]
    model, schedule = recipe.model, recipe.training
    assert isinstance(model, Transformer)
    num_steps = tokens // (schedule.batch_size * model.context)
    epochs = num_steps / WindowBatches(corpus.train.ids, model.context, schedule, 0).num_batches
    schedule = replace(schedule, epochs=epochs, evaluate_every=epochs)
    recipe = replace(recipe, training=schedule, seed=recipe.seed + seed)
    observe = Observation(
        frozenset(checkpoint_steps(num_steps, linear)),
        lambda model: _observed(model, recipe, train, corpus.valid.ids),
    )
    result = run(recipe, folder, show=lambda share, loss, speed: show(share), observe=observe)
    lines = read_metrics(folder / METRICS, _Line)
    measured = [_measured(line, folder) for line in lines if line.checkpoint is not None]
    kept = ("num_parameters", "tokens", "epochs", "tokens_per_second", "seconds", "versions")
    return FamilyRun(
        width=width,
        seed=seed,
        **{name: result[name] for name in kept},
        num_embedding_parameters=2 * result["vocab_size"] * width,
        learning_rate=recipe.optimizer.learning_rate,
        measured=measured,
    )


@dataclass(frozen=True)
class _Line:
    """What is read of a line of metrics; most have no checkpoint."""

    step: int
    epoch: float
    train_loss: float | None = None
    checkpoint: dict[str, Any] | None = None
    """Without its step; the key is `OBSERVED`."""


def _measured(line: _Line, folder: Path) -> Measured:
    content = {
        "epoch": line.epoch,
        "train_loss": line.train_loss,
        "checkpoint": {"step": line.step, **(line.checkpoint or {})},
    }
    name = f"{folder / METRICS}, step {line.step}"
    return record(Measured, content, name, train_again(folder), exact=True)


def _observed(model: nn.Module, recipe: Recipe, train: Tensor, valid: Tensor) -> dict[str, Any]:
    """A line of metrics; its step is among it already."""
    small = cast(LanguageModel, model)
    device = next(model.parameters()).device
    schedule = recipe.training
    rows = schedule.evaluation_batch_size
    batches = text_in_order(small, valid, schedule, rows)
    loss = mean_nll(model, batches, device)
    with torch.no_grad(), evaluating(small):
        parts = [small.backbone(batch.input.to(device)).hidden for batch in batches]
    hidden = torch.cat([part.flatten(0, 1).cpu() for part in parts])
    found: dict[str, Any] = asdict(measure_checkpoint(0, loss, small.head.weight, hidden))
    found.pop("step")
    return {
        "train_loss": mean_nll(model, text_in_order(small, train, schedule, rows), device),
        OBSERVED: found,
    }


def measure_checkpoint(step: int, loss: float, weight: Tensor, hidden: Tensor) -> Checkpoint:
    """Measure one checkpoint.

    Args:
        step: the optimizer's steps so far.
        loss: nats per token of held-out text.
        weight: (V, D) the output layer, as stored.
        hidden: (N, D) or (..., D) what it multiplies; of at least two positions.

    Raises:
        WideneckError: the widths differ, fewer than two states, or a number that is not finite.
    """
    weight, hidden = weight.detach().cpu(), hidden.detach().cpu().flatten(0, -2)
    if weight.shape[1] != hidden.shape[1] or len(hidden) < 2:
        raise WideneckError(
            "A checkpoint is measured on an output layer (V, D) and two or more states (N, D), got "
            f"{tuple(weight.shape)} and {tuple(hidden.shape)}."
        )
    if not (weight.isfinite().all() and hidden.isfinite().all()):
        raise WideneckError(
            f"The output layer or its hidden states are not finite at step {step}; there is "
            "nothing to measure after a loss turned NaN."
        )
    head = measure_geometry(weight, torch.finfo(weight.dtype).eps)
    states = measure_geometry(hidden, torch.finfo(hidden.dtype).eps)
    raw, centred = head.spectrum.raw, head.spectrum.centred
    return Checkpoint(
        step=step,
        loss=loss,
        vocab_size=raw.num_rows,
        hidden_size=raw.num_columns,
        kl_sigma2=raw.kl_sigma2,
        kl_sigma2_share=raw.kl_sigma2_share,
        kl_sigma2_centred=centred.kl_sigma2,
        kl_sigma=raw.kl_sigma,
        kl_sigma_centred=centred.kl_sigma,
        second_value=_second_value(raw),
        second_value_centred=_second_value(centred),
        mean_row_share=head.mean_row_share,
        stable_rank=raw.stable_rank,
        stable_rank_centred=centred.stable_rank,
        num_states=states.num_rows,
        anisotropy=states.cosines.anisotropy,
        anisotropy_centred=states.cosines_centred.anisotropy,
    )


def _second_value(spectrum: Spectrum) -> float:
    return spectrum.singular_values[1] / spectrum.singular_values[0]
