"""Dynamic evaluation: the model goes on learning from the text that it is tested on.

Krause, Kahembwe, Murray & Renals, ICML 2018, arXiv:1709.07432; their rule of RMS with decay towards
the trained weights.

First, over the training text, in batches: MS = sqrt(mean_b g_b^2) of every weight, g_b the gradient
of batch b's mean loss.  Then, over the text that is evaluated, one row of it, segment by segment:
the loss of the segment is measured, and after it

    theta <- theta + decay * rate (theta_0 - theta) - learning_rate * g / (MS + epsilon)

with g the gradient of the segment's mean loss and rate = MS / mean(MS), clipped at 1 / decay; the
mean is over tensors, of each tensor's own mean, as in the released code.  Gradients reach back to
the segment's start and are not clipped.

The code first had MS = sqrt(sum_b g_b^2) and rate = MS / sum(MS), the sum over tensors, here the
"old" scaling.  The numbers in the papers, in that of Yang et al. 2018 too, belong to that one.

One difference from the released code: it does not predict a last token that would stand in a
segment alone; here every token after the first is predicted.

A backbone with a window learns from window to window; `segment` is then its `context`.  Cost: a
training step a segment, and four copies of the weights.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from wideneck.audits.states import Progress
from wideneck.evaluation.config import DynamicEvaluation
from wideneck.evaluation.perplexity import Perplexity
from wideneck.evaluation.streaming import Reading
from wideneck.models.small.language_model import LanguageModel


@dataclass(frozen=True, eq=False)
class GradientStatistics:
    """What the training text says of every weight."""

    sum_of_squares: list[Tensor] = field(repr=False)
    """Sums over the gradients of the batches, in the order of the model's trainable parameters."""
    num_batches: int

    def factors(self, settings: DynamicEvaluation) -> tuple[list[Tensor], list[Tensor]]:
        """The rule's two factors: decay * rate, at most 1, and learning_rate / (MS + epsilon)."""
        old = settings.scaling == "old"
        batches = 1 if old else self.num_batches
        MS = [(squares / batches).sqrt() for squares in self.sum_of_squares]
        means = torch.stack([tensor.mean() for tensor in MS])
        scale = means.sum() if old else means.mean()
        pulls = [(settings.decay * tensor / scale).clamp_max(1) for tensor in MS]
        return pulls, [settings.learning_rate / (tensor + settings.epsilon) for tensor in MS]


@torch.enable_grad()
def gradient_statistics(
    model: LanguageModel,
    ids: Tensor,
    *,
    batch_size: int = 100,
    segment: int = 5,
    progress: Progress | None = None,
) -> GradientStatistics:
    """Squared gradients of the plain loss over the training text `ids` (N,), every dropout off.

    Args:
        batch_size: rows or windows of a batch.  A gradient of a mean over more tokens is smaller,
            so the numbers of `DynamicEvaluation` belong to the 100 and 5 of the released code.
        segment: tokens of a batch's rows, where the backbone carries a state.
        progress: called as progress("gradient statistics", predictions done, in all).

    Raises:
        WideneckError: as `Reading`.
    """
    parameters = _trainable(model)
    sums = [
        torch.zeros_like(p, dtype=torch.promote_types(p.dtype, torch.float32)) for p in parameters
    ]
    reading = Reading.of(model, ids, batch_size=batch_size, segment=segment)
    num_batches = done = 0
    with model.without_dropout():
        for _, num_tokens, gradients in _gradients(model, reading, parameters):
            for squares, gradient in zip(sums, gradients, strict=True):
                gradient = gradient.to(squares.dtype)
                squares.addcmul_(gradient, gradient)
            num_batches += 1
            done += num_tokens
            if progress:
                progress("gradient statistics", done, reading.num_predicted)
    return GradientStatistics(sums, num_batches)


@torch.enable_grad()
def dynamic_perplexity(
    model: LanguageModel,
    ids: Tensor,
    statistics: GradientStatistics,
    settings: DynamicEvaluation,
    *,
    num_bytes: int | None = None,
    progress: Progress | None = None,
) -> Perplexity:
    """The loss of the text `ids` (N,) with the model learning from it as it goes; in one row.

    The model has its trained weights, and its own modes, again afterwards, whatever happens.

    Args:
        ids: (N,) token ids.
        statistics: of this model on its training text.
        settings: the numbers of the rule.
        num_bytes: UTF-8 bytes of the predicted tokens, all but the first, for bits per byte.
        progress: called as progress("dynamic evaluation", predictions done, in all).

    Raises:
        WideneckError: as `Reading`; the loss is not finite.
    """
    reading = Reading.of(model, ids, batch_size=1, segment=settings.segment)
    parameters = _trainable(model)
    pulls, steps = (
        [factor.to(p.dtype) for factor, p in zip(factors, parameters, strict=True)]
        for factors in statistics.factors(settings)
    )
    nats, done = 0.0, 0
    with model.without_dropout(), _restored(parameters) as trained:
        for loss, num_tokens, gradients in _gradients(model, reading, parameters):
            nats += num_tokens * loss
            with torch.no_grad():
                for p, start, pull, step, gradient in zip(
                    parameters, trained, pulls, steps, gradients, strict=True
                ):
                    p.lerp_(start, pull).addcmul_(step, gradient, value=-1)
            done += num_tokens
            if progress:
                progress("dynamic evaluation", done, reading.num_predicted)
    conventions = (
        f"dynamic evaluation, RMS with decay ({settings.scaling} scaling, learning rate "
        f"{settings.learning_rate:g}, decay {settings.decay:g}, epsilon {settings.epsilon:g}), "
        f"updated after every {reading.context or settings.segment} tokens; {reading.conventions}"
    )
    return Perplexity.of(nats, reading.num_predicted, conventions, num_bytes)


def _gradients(
    model: LanguageModel, reading: Reading, parameters: list[nn.Parameter]
) -> Iterator[tuple[float, int, tuple[Tensor, ...]]]:
    """Mean loss, number of tokens and gradients of every piece; the state is carried as numbers."""
    device = model.backbone.embedding.weight.device
    state: list[Tensor] = []
    for inputs, target in reading:
        output = model.backbone(inputs.to(device), state)
        loss = model.head.nll(output.hidden, target.to(device), reduction="mean")
        gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
        state = [part.detach() for part in output.state]
        yield loss.item(), target.numel(), gradients


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    """Each tensor once, tied or not."""
    return [p for p in model.parameters() if p.requires_grad]


@contextmanager
def _restored(parameters: list[nn.Parameter]) -> Iterator[list[Tensor]]:
    """Copies of the parameters, which come back into them at the end, whatever happens."""
    trained = [p.detach().clone() for p in parameters]
    try:
        yield trained
    finally:
        with torch.no_grad():
            for p, start in zip(parameters, trained, strict=True):
                p.copy_(start)
