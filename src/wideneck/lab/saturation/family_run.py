"""One model of the family with one seed: trained by its recipe, measured on the way."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from wideneck.audits.measure import measure
from wideneck.data import encode_corpus, read_corpus
from wideneck.files.records import record
from wideneck.lab.saturation.family import Checkpoint, measure_checkpoint
from wideneck.lab.side_by_side import Show
from wideneck.models import evaluating
from wideneck.models.small.language_model import LanguageModel
from wideneck.training.batches import Batch, Observation, text_in_order
from wideneck.training.folder import METRICS
from wideneck.training.loop import mean_nll
from wideneck.training.metrics import read_metrics, train_again
from wideneck.training.recipe import Recipe
from wideneck.training.run import run

OBSERVED = "checkpoint"
"""Key of a measurement among the metrics."""


@dataclass(frozen=True)
class FamilyJob:
    """What a process is given."""

    width: int
    seed: int
    recipe: Recipe
    steps: list[int]
    """After which the model is measured."""
    train_tokens: int
    folder: Path
    """Of the run."""

    @property
    def name(self) -> str:
        """Of the finished run."""
        return self.folder.name


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
    powers, power = {0}, 1
    while power < num_steps / linear:
        powers.add(power)
        power *= 2
    return sorted(powers | spaced)


def train_and_measure(job: FamilyJob, show: Show) -> FamilyRun:
    """Train, or read the finished run, with all its measurements.

    Raises:
        WideneckError: as `wideneck.training.run`.
    """
    corpus = encode_corpus(read_corpus(job.recipe.data.text), job.recipe.data)
    train = corpus.train.ids[: job.train_tokens + 1]
    observe = Observation(
        frozenset(job.steps), lambda model: _observed(model, job, train, corpus.valid.ids)
    )
    result = run(
        job.recipe, job.folder, show=lambda share, loss, speed: show(share), observe=observe
    )
    lines = read_metrics(job.folder / METRICS, _Line)
    measured = [_measured(line, job.folder) for line in lines if line.checkpoint is not None]
    kept = ("num_parameters", "tokens", "epochs", "tokens_per_second", "seconds", "versions")
    return FamilyRun(
        width=job.width,
        seed=job.seed,
        **{name: result[name] for name in kept},
        num_embedding_parameters=2 * result["vocab_size"] * job.width,
        learning_rate=job.recipe.optimizer.learning_rate,
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


def _observed(model: nn.Module, job: FamilyJob, train: Tensor, valid: Tensor) -> dict[str, Any]:
    """A line of metrics; its step is among it already."""
    small = cast(LanguageModel, model)
    device = next(model.parameters()).device
    schedule = job.recipe.training
    rows = schedule.evaluation_batch_size
    batches = text_in_order(small, valid, schedule, rows)
    loss = mean_nll(model, batches, device)
    hidden = _hidden(small, batches, device)
    found: dict[str, Any] = asdict(measure_checkpoint(0, loss, small.head.weight, hidden))
    found.pop("step")
    return {
        "train_loss": mean_nll(model, text_in_order(small, train, schedule, rows), device),
        OBSERVED: found,
    }


@torch.no_grad()
def _hidden(model: LanguageModel, batches: list[Batch], device: torch.device) -> Tensor:
    """What the output layer multiplies, (N, D)."""
    with evaluating(model):
        parts = [model.backbone(batch.input.to(device)).hidden for batch in batches]
    return torch.cat([part.flatten(0, 1).cpu() for part in parts])
