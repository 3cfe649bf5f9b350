"""The training loop: one for every model, on one process or several.

accelerate prepares the model (DDP or FSDP2 where its launcher says so); all else is here.  A run
depends on its recipe alone: killed at any moment and started again it goes on from its last
checkpoint to the same losses, bit for bit on the same machine.
"""

import math
import time
from collections.abc import Callable, Iterable
from typing import Any, final

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from wideneck.attached.parameter_groups import learned_numbers
from wideneck.audits.states import Progress
from wideneck.errors import WideneckError
from wideneck.models import evaluating
from wideneck.training.averaging import Averaging
from wideneck.training.batches import Batch, Task
from wideneck.training.checkpoint import collected, load_model, model_tensors
from wideneck.training.folder import METRICS, RunFolder
from wideneck.training.headers import Standing
from wideneck.training.metrics import Metrics
from wideneck.training.optimizers import SGD, OptimizerConfig
from wideneck.training.recipe import Recipe
from wideneck.training.resuming import restore, store
from wideneck.training.tensor_file import Stored, write_tensors
from wideneck.training.watched import watched

TIMES = "times"
"""Key in a group of parameters: its rate over that of the recipe."""
Show = Callable[[float, float, float], None]
"""Called as show(share done, loss, tokens a second)."""


def torch_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a recipe over the parameters that are trained."""
    trained = [p for p in model.parameters() if p.requires_grad]
    apart = {id(p) for p in learned_numbers(model)}
    times = 1.0
    if isinstance(config, SGD):
        times = config.activation_rate / config.learning_rate
    else:
        apart |= {id(p) for p in trained if p.ndim <= 1}
    decayed = [p for p in trained if id(p) not in apart]
    others = [p for p in trained if id(p) in apart]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": config.weight_decay, TIMES: 1.0},
        {"params": others, "weight_decay": 0.0, TIMES: times},
    ]
    groups = [group for group in groups if group["params"]]
    if isinstance(config, SGD):
        return torch.optim.SGD(groups, lr=config.learning_rate)
    return torch.optim.AdamW(
        groups,
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        fused=True,  # one pass over memory: a tenth of the time for a large output matrix
    )


@final
class Trainer:
    """A run under way.

    `show` is told of every step, `track` of every line of metrics, as a dictionary, and `progress`
    of the reading of a checkpoint, if that takes longer than a second.
    """

    def __init__(
        self,
        task: Task,
        recipe: Recipe,
        folder: RunFolder,
        accelerator: Accelerator,
        show: Show,
        track: Callable[[dict[str, Any]], None] = lambda line: None,
        progress: Progress | None = None,
    ):
        self.task, self.recipe, self.folder = task, recipe, folder
        self.accelerator, self.show, self.track = accelerator, show, track
        self.model, self.optimizer = accelerator.prepare(
            task.model, torch_optimizer(recipe.optimizer, task.model)
        )
        self.plain: nn.Module = accelerator.unwrap_model(self.model)
        self.first = accelerator.is_main_process
        self.averaging = Averaging(self.plain.named_parameters())
        self.standing = Standing()
        self.carried: list[Tensor] = []
        # Every process its own dropouts; the weights are the same.
        torch.manual_seed(recipe.seed + 1_000_003 * (accelerator.process_index + 1))
        if folder.checkpoint.exists():
            restore(self, progress)
        self.watch = (
            None if recipe.watch is None else watched(self.plain, recipe.watch, self.standing.step)
        )
        self.metrics = (
            Metrics(folder.path / METRICS, self.standing.metrics_size) if self.first else None
        )
        self.saved_step = self.standing.step

    def train(self) -> Standing:
        """To the end of the recipe, or until it stops getting better.

        Raises:
            WideneckError: the loss is not finite, or the disk is full; the last checkpoint and
                the best weights are kept.
        """
        try:
            self._train()
        finally:
            if self.metrics is not None:
                self.metrics.close()
        return self.standing

    def _train(self) -> None:
        standing, schedule = self.standing, self.recipe.training
        saved = time.monotonic()
        self.model.train()
        if standing.step == 0:
            self._observe()
        while not self._done():
            order = self.task.batches.order(standing.epoch)
            while standing.index < len(order) and not self._done():
                batch = order.batch(standing.index)
                self._step(batch)
                if standing.step % schedule.log_every == 0:
                    self._log()
                self._observe()
                if self._evaluation_due():
                    self._evaluate()
                elif not self._together(time.monotonic() - saved > schedule.checkpoint_every):
                    continue
                self.save()
                saved = time.monotonic()
            if standing.index == len(order):
                standing.epoch, standing.index = standing.epoch + 1, 0

    def best(self) -> nn.Module:
        """The model with its best weights."""
        self.accelerator.wait_for_everyone()  # the first process has written them
        load_model(self.plain, Stored(self.folder.model))
        return self.plain

    @property
    def epochs(self) -> float:
        """How much of the training text has been seen, counted in passes."""
        return self.standing.num_tokens / self.task.batches.tokens_per_epoch

    def save(self) -> None:
        """Write the checkpoint."""
        if self.metrics is not None:
            self.standing.metrics_size = self.metrics.synced()
        store(self)
        self.saved_step = self.standing.step

    def _step(self, batch: Batch) -> None:
        started, standing, config = time.perf_counter(), self.standing, self.recipe.optimizer
        self._start_averaging(config)
        after = (standing.num_tokens + batch.num_tokens) / self._tokens(self.recipe.training.epochs)
        rate = config.rate(min(1.0, after))
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group[TIMES] * (batch.share if isinstance(config, SGD) else 1.0)
        device = self.accelerator.device
        carried = [] if batch.fresh else self.carried
        step = self.model(batch.input.to(device), batch.target.to(device), carried)
        self.carried = [x.detach() for x in step.state]
        self.accelerator.backward(step.nll + step.penalty)
        norm = self._clipped(config.clip)
        nll = self._mean(step.nll.detach()).item()
        if not (math.isfinite(nll) and math.isfinite(norm)):
            raise self._not_finite(
                f"The loss is {nll} and the norm of its gradient {norm} at step {standing.step + 1}"
            )
        found = {} if self.watch is None else self.watch.step(standing.step + 1)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.averaging.started:
            self.averaging.update()
        standing.index += 1
        standing.step += 1
        standing.num_tokens += batch.num_tokens
        standing.pending_nll += nll * batch.num_tokens
        standing.pending_tokens += batch.num_tokens
        elapsed = time.perf_counter() - started
        standing.pending_seconds += elapsed
        standing.seconds += elapsed
        if found:
            self._write(**found)
        self.show(min(1.0, after), nll, standing.pending_tokens / standing.pending_seconds)

    def _log(self) -> None:
        standing = self.standing
        if standing.pending_tokens == 0:
            return
        self._write(
            loss=standing.pending_nll / standing.pending_tokens,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            tokens_per_second=round(standing.pending_tokens / standing.pending_seconds, 1),
            seconds=round(standing.seconds, 3),
        )
        standing.pending_nll, standing.pending_tokens, standing.pending_seconds = 0.0, 0, 0.0

    def _observe(self) -> None:
        """Before the step is saved, so that a line is in the metrics once."""
        observe = self.task.observe
        if observe is not None and self.standing.step in observe.steps:
            self._write(**observe.measure(self.plain))

    def _evaluate(self) -> None:
        started, standing = time.perf_counter(), self.standing
        self._log()
        with self.averaging.swapped():
            loss = mean_nll(self.model, self.task.valid, self.accelerator.device)
            loss = self._agreed(loss)
            if not math.isfinite(loss):
                raise self._not_finite(f"The validation loss is {loss} after step {standing.step}")
            standing.history.append(loss)
            if standing.best is None or loss < standing.history[standing.best]:
                standing.best = len(standing.history) - 1
                tensors = collected(model_tensors(self.plain), keep=self.first)
                if self.first:
                    about = {"step": standing.step, **self.task.about, **self.task.described}
                    write_tensors(self.folder.model, tensors, about)
        standing.seconds += time.perf_counter() - started
        self._write(
            valid_loss=loss,
            valid_perplexity=perplexity(loss),
            averaged=self.averaging.started,
            seconds=round(standing.seconds, 3),
        )

    def _write(self, **found: Any) -> None:
        line = {"step": self.standing.step, "epoch": round(self.epochs, 6), **found}
        if self.metrics is not None:
            self.metrics.write(line)
        self.track(line)

    def _evaluation_due(self) -> bool:
        due = (len(self.standing.history) + 1) * self.recipe.training.evaluate_every
        return self.standing.num_tokens >= self._tokens(due) or self._out_of_text()

    def _done(self) -> bool:
        standing, patience = self.standing, self.recipe.training.patience
        stale = (
            patience is not None
            and standing.best is not None
            and len(standing.history) - 1 - standing.best >= patience
        )
        return stale or self._out_of_text()

    def _out_of_text(self) -> bool:
        return self.standing.num_tokens >= self._tokens(self.recipe.training.epochs)

    def _tokens(self, epochs: float) -> int:
        """Predictions, counted, so that the last batch of an epoch completes it; at least one."""
        return max(1, round(epochs * self.task.batches.tokens_per_epoch))

    def _start_averaging(self, config: OptimizerConfig) -> None:
        if self.averaging.started or not isinstance(config, SGD):
            return
        if config.average_from is not None:
            tokens = round(config.average_from * self.task.batches.tokens_per_epoch)
            start = self.standing.num_tokens >= tokens
        else:
            start = non_monotone(self.standing.history, config.non_monotone)
        if start:
            self.averaging.start()

    def _clipped(self, largest: float) -> float:
        """Clip the gradient; its norm before, over all processes."""
        norm = self.accelerator.clip_grad_norm_(self.plain.parameters(), largest)
        assert norm is not None
        return (norm.full_tensor() if isinstance(norm, DTensor) else norm).item()

    def _mean(self, value: Tensor) -> Tensor:
        if self.accelerator.num_processes == 1:
            return value
        mean: Any = self.accelerator.reduce(value, reduction="mean")
        return mean

    def _agreed(self, loss: float) -> float:
        """The mean over processes, which each found on its own: they must decide alike."""
        if self.accelerator.num_processes == 1:
            return loss
        ours = torch.tensor(loss, dtype=torch.float64, device=self.accelerator.device)
        return self._mean(ours).item()

    def _together(self, wish: bool) -> bool:
        """What the first process wishes: clocks differ, and all must write together."""
        if self.accelerator.num_processes == 1:
            return wish
        first = self.first and wish
        total: Any = self.accelerator.reduce(
            torch.tensor(float(first), device=self.accelerator.device), reduction="sum"
        )
        return bool(total.item() > 0)

    def _not_finite(self, what: str) -> WideneckError:
        if self.folder.checkpoint.exists():
            best = "" if self.standing.best is None else " and the best weights"
            kept = f"the checkpoint of step {self.saved_step}{best} are kept in {self.folder.path}"
        else:
            kept = "there is no checkpoint yet"
        return WideneckError(
            f"{what} (epoch {self.epochs:.2f}); {kept}. The same recipe would come to the same "
            "step again: lower the learning_rate or the clip of [optimizer], and train in another "
            "folder by --out."
        )


def non_monotone(history: list[float], interval: int) -> bool:
    """Whether the last loss is worse than the best before it, `interval` left out (NT-ASGD).

    Merity et al. 2018, Algorithm 1: T is set where v > min of logs[0 ... t - n - 1], with v the
    last loss, t the number of those before it and n the interval.
    """
    return 0 < interval < len(history) - 1 and history[-1] > min(history[: -interval - 1])


def perplexity(nll: float) -> float:
    """From nats per token; large, not infinite, for a loss beyond all numbers."""
    return math.exp(min(nll, 700))


@torch.no_grad()
def mean_nll(model: nn.Module, batches: Iterable[Batch], device: torch.device) -> float:
    """Nats per token over batches in order, in eval mode, with the state carried."""
    total, count, state = 0.0, 0, []
    with evaluating(model):
        for batch in batches:
            target = batch.target.to(device)
            step = model(batch.input.to(device), target, [] if batch.fresh else state)
            state = step.state
            total += step.nll.item() * target.numel()
            count += target.numel()
    return total / count
