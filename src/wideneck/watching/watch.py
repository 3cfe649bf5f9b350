"""`Watch`: what happens to the output layer while a model is trained."""

import math
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import TrainerCallback

from wideneck.audits.measured import NUMERICAL
from wideneck.errors import WideneckError
from wideneck.models import LogitMap, measure_logit_map
from wideneck.models.asking import evaluating
from wideneck.registry import shown
from wideneck.watching.gradients import head_share
from wideneck.watching.lines import Lines
from wideneck.watching.listening import Listener, watched_layer
from wideneck.watching.pace import Pace
from wideneck.watching.scores import OutputScores
from wideneck.watching.seen import Seen
from wideneck.watching.weights import Spectrum, weight_quantities

SCORES, WEIGHTS, SPECTRA = "scores", "weights", "spectra"
PREFIX = "watch/"


class Watch(TrainerCallback):
    """Follows an output layer through training: scores, weights, gradients, ranks.

    In transformers' Trainer, and so in TRL's::

        trainer = Trainer(model, ...)
        wideneck.Watch(file="watch.jsonl").join(trainer)

    In Lightning, `Trainer(callbacks=[wideneck.Watch(file=...).lightning()])`.  In a loop of one's
    own, between the backward pass and the optimizer's step::

        watch = wideneck.Watch(model, file="watch.jsonl")
        for step, batch in enumerate(batches, 1):
            loss = model(**batch).loss
            loss.backward()
            watch.step(step, loss=loss)
            optimizer.step()
            optimizer.zero_grad()

    It reads the model and draws nothing at random, so a run that is watched trains like one that is
    not.  It never stops a run.  `wideneck.watching.quantities.Watched` defines every number; all of
    them are of the weights that the step's loss was computed with, and of a sample of the tokens of
    its first micro-batch, evenly spaced.

    Args:
        model: a causal language model, with its own output layer or one of wideneck, or what DDP,
            FSDP2, PEFT or accelerate have made of it.  None where a trainer gives it.
        file: JSON lines, one or more a step, which `wideneck watch` shows; None for no file.  A
            resumed run goes on in it: lines from its first step on are written anew.
        head: the output layer, for a model that is not of transformers: a module that is called
            with hidden states (..., D) and has a weight (V, D).  Its output is taken for the
            scores of a softmax, unless it is a head of wideneck.
        scores_every: steps from one look at scores and gradients to the next.
        weights_every: the same for the mean row and the lengths of the rows.
        spectra_every: for stable ranks, singular entropy, the effective rank of the states and the
            share of the logit gradient that is kept.
        tokens: how many of a step's tokens are looked at, in all processes together; for the
            effective rank four times as many.
        limit: share of a step's time that watching may take; periods are doubled until it does not
            take more.  None keeps them.

    Cost: at each look N V D multiplications for the scores of N `tokens`; one read of W; 2 V D^2
        operations in float64 for a spectrum.

    Raises:
        WideneckError: no output layer is found, the model has an encoder, or it does to its logits
            what no measure knows.
    """

    def __init__(
        self,
        model: nn.Module | None = None,
        *,
        file: str | Path | None = None,
        head: nn.Module | None = None,
        scores_every: int = 10,
        weights_every: int = 50,
        spectra_every: int = 500,
        tokens: int = 512,
        limit: float | None = 0.01,
    ):
        counts = {
            "scores_every": scores_every,
            "weights_every": weights_every,
            "spectra_every": spectra_every,
            "tokens": tokens,
        }
        for name, count in counts.items():
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise WideneckError(f"Watch needs {name} >= 1, a whole number, got {shown(count)}.")
        if limit is not None and not 0 < limit < 1:
            raise WideneckError(
                f"Watch needs a limit between 0 and 1, a share of the time, got {shown(limit)}."
            )
        periods = {SCORES: scores_every, WEIGHTS: weights_every, SPECTRA: spectra_every}
        self.pace = Pace(periods, limit)
        self.tokens, self._head = tokens, head
        self.last: dict[str, Any] = {}
        """The newest value of every quantity."""
        self._lines = None if file is None else Lines(file)
        self._model: Any = None
        self._layer: Any = None
        self._listener: Listener | None = None
        self._output: OutputScores | None = None
        self._step: int | None = None
        self._seen = Seen()
        self._unlogged: dict[str, Any] = {}
        if model is not None:
            self.follow(model)

    def follow(self, model: nn.Module, step: int | None = None) -> None:
        """Watch a model from now on, after `step` steps; what was watched before no longer is.

        Raises:
            WideneckError: as the class.
        """
        self.close()
        self._model, self._step = model, step
        if self._head is None:
            named, self._layer = watched_layer(model)
            with evaluating(named):
                logit_map = measure_logit_map(named)
        else:
            named, self._layer, logit_map = model, self._head, LogitMap("identity")
        if not isinstance(getattr(self._layer, "weight", None), Tensor):
            raise WideneckError(
                f"The head of Watch is a layer with a weight (V, D), got a "
                f"{type(self._layer).__name__}."
            )
        self._output = OutputScores(self._layer, logit_map)
        self._listener = Listener(named, self._layer, self.see)
        self._seen = Seen(self._due((step or 0) + 1, known=step is not None))

    def close(self) -> None:
        """Take the hooks off the model."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    @torch.compiler.disable
    @torch.no_grad()
    def see(self, hidden: Tensor, target: Tensor | None = None) -> None:
        """Look at states that enter the head; for a loop that calls it in a way of its own.

        Nothing happens outside of training, and until the next look is due.

        Args:
            hidden: (..., D).
            target: (...) ids, aligned with the states, -100 where there is none.
        """
        if not self._seen.wanted or not self._layer.training:
            return
        assert self._output is not None
        kind = hidden.device.type
        with torch.autocast(kind, enabled=False), evaluating(self._layer):
            hidden = hidden.detach().flatten(0, -2)
            target = None if target is None else target.to(hidden.device).flatten()
            count = -(-self.tokens // _world())
            for group in sorted(self._seen.wanted):
                with self.pace.timing(group, hidden.device):
                    if group == SCORES:
                        self._seen.take_scores(self._output, hidden, target, count)
                    else:
                        self._seen.take_spectra(self._output, hidden, target, count)
        self._seen.wanted = frozenset()

    @torch.no_grad()
    def step(self, step: int, *, loss: Any = None) -> dict[str, Any]:
        """After the backward pass of a step and before the update, in every process.

        Args:
            step: counted from 1.
            loss: to be written beside the rest.

        Returns:
            What was measured, by name; nothing where nothing was due.

        Raises:
            WideneckError: no model is watched, the step is not after the last one, or the file
                cannot be written.
        """
        if self._output is None:
            raise WideneckError("Watch has no model yet: wideneck.Watch(model, ...).")
        if self._step is not None and step <= self._step:
            raise WideneckError(
                f"Watch.step takes steps in their order, got {step} after {self._step}."
            )
        device = self._layer.weight.device
        found: dict[str, Any] = {}
        measured = [group for group in self.pace.periods if self.pace.due(group, step)]
        for group in measured:
            with self.pace.timing(group, device):
                found |= getattr(self, f"_{group}")()
        self.pace.stepped(measured, device)
        self._step = step
        self._seen = Seen(self._due(step + 1))
        # Of a mixture there are no scores; of a run that diverges there may be no number at all.
        found = {name: value for name, value in found.items() if math.isfinite(value)}
        if loss is not None and found:
            found = {"loss": float(loss), **found}
        self._write(step, found)
        self._unlogged |= found
        self.last |= found
        return found

    def lightning(self) -> Any:
        """A callback of Lightning that watches the module's language model.

        Raises:
            WideneckError: lightning is not installed.
        """
        from wideneck.watching.lightning import lightning_callback

        return lightning_callback(self)

    def join(self, trainer: Any) -> "Watch":
        """Stand in front of a Trainer's callbacks, so that what it reports to gets the numbers.

        As one of `callbacks=[...]` they go to the file and to the Trainer's own history alone.
        """
        callbacks = trainer.callback_handler.callbacks
        if self in callbacks:
            callbacks.remove(self)
        callbacks.insert(0, self)
        return self

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Follow the model of the Trainer."""
        self.follow(kwargs["model"], state.global_step)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The gradients are there, and the weights are those that they are of."""
        self.step(state.global_step + 1)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Add the numbers since the last log to the one that is about to be shown."""
        logs = kwargs["logs"]
        losses = {"loss": logs.get("loss"), "valid_loss": logs.get("eval_loss")}
        self._write(state.global_step, {k: v for k, v in losses.items() if v is not None})
        if "loss" not in logs:
            return
        found = {f"{PREFIX}{name}": value for name, value in self._unlogged.items()}
        self._unlogged = {}
        logs.update(found)
        if state.log_history:
            state.log_history[-1].update(found)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave the model as it was."""
        self.close()

    def _due(self, step: int, *, known: bool = True) -> frozenset[str]:
        """What is wanted of the states of a step; all of it where nobody knows which comes."""
        groups = (SCORES, SPECTRA)
        return frozenset(group for group in groups if not known or self.pace.due(group, step))

    def _write(self, step: int, found: dict[str, Any]) -> None:
        if self._lines is not None and found and _first():
            self._lines.write({"step": step, **found})

    def _scores(self) -> dict[str, Any]:
        found = self._seen.scores()
        share = head_share(self._model, self._layer.weight)
        return found if share is None else {**found, "head_gradient_share": share}

    def _weights(self) -> dict[str, Any]:
        try:
            return weight_quantities(self._layer.weight)
        except NUMERICAL:
            return {}

    def _spectra(self) -> dict[str, Any]:
        try:
            spectrum = Spectrum(self._layer.weight)
            return {**spectrum.quantities(), **self._seen.spectra(spectrum)}
        except NUMERICAL:
            return {}


def _world() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _first() -> bool:
    return _world() == 1 or dist.get_rank() == 0
