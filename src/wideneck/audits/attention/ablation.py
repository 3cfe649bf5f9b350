"""What a head is worth: the loss when it attends to everything it may see alike.

One head at a time is replaced by the plain mean of its visible values.  All heads of a layer run
as one batch, and the layers below, which do not change, give back what they gave before.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn

from wideneck.attention.call import Call, every_head, visible_keys
from wideneck.attention.config import Normalizer
from wideneck.attention.forward import attend
from wideneck.attention.visits import arrive
from wideneck.audits.attention.reading import Reader, Watcher
from wideneck.audits.states import Progress
from wideneck.files.boundary import out_of_memory, reason
from wideneck.models.batches import Batches
from wideneck.models.ranks import ALONE, Ranks
from wideneck.models.reading import decoder_layers, hearing

BATCH = 3
"""Heads that run at once: more gain nothing on a CPU and hold more activations."""


def ablation_losses(
    reader: Reader,
    layers: dict[nn.Module, int],
    ids: Tensor,
    targets: Tensor,
    *,
    ranks: Ranks = ALONE,
    progress: Progress | None = None,
    notes: list[str] | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Losses without and with each head replaced.

    Args:
        reader: of the model.
        layers: attention layers in the order in which they run, with their numbers of heads.
        ids: (W, P + T), the windows.
        targets: (W, T).
        ranks: the processes that share the layers on each window.
        progress: called as progress(stage, done, total).
        notes: to which is added why all of the model was run for each head, where it was.

    Returns:
        The losses (W, T), and for each layer (H, W, T).

    Cost: for each head of layer l of L one pass of the model from layer l on, or of all of it where
    the layers cannot be run one by one.
    """
    modules, model = list(layers), reader.model
    total, done = len(ids) * sum(layers.values()), 0
    batches = Batches(model, BATCH, ids.shape[1])
    outputs: dict[nn.Module, Any] = {}
    at, own, told = -1, torch.empty(0), False

    def begin(w: int) -> None:
        """The model as it is on a window, unless that is done."""
        nonlocal at, own, told
        if w == at:
            return
        outputs.clear()
        window, target = ids[w : w + 1], targets[w : w + 1]
        with hearing(after=decoder_layers(model), seen=outputs.__setitem__):
            own = reader.losses(window, target)
        why_not = _why_not_skip(reader, modules[-1], outputs, window, target, own)
        if why_not is not None:
            outputs.clear()
            if notes is not None and not told:
                notes.append(
                    "Replacing a head ran the whole model and not only the layers from its own on, "
                    f"which cannot be run alone here ({why_not})."
                )
        at, told = w, True

    def replaced(unit: int) -> tuple[Tensor, Tensor]:
        """The losses (1, T) on a window, and (H, T) with each head of a layer replaced."""
        nonlocal done
        w, layer = divmod(unit, len(modules))
        begin(w)
        module = modules[layer]

        def run(heads: Sequence[int]) -> list[Tensor]:
            count = len(heads)
            with _skipping(model, module, outputs, count):
                window, target = (x[w : w + 1].expand(count, -1) for x in (ids, targets))
                return list(reader.losses(window, target, _ablated(module, heads)))

        of_heads = torch.stack(batches.read(range(layers[module]), run))
        done += len(of_heads)
        if progress:
            progress("replacing heads", done, total)
        return own, of_heads

    base, found = [], [[] for _ in modules]
    for unit, (losses, of_heads) in enumerate(
        ranks.in_order(len(ids) * len(modules), replaced, "layers on windows")
    ):
        if unit % len(modules) == 0:
            base.append(losses)
        found[unit % len(modules)].append(of_heads)
    return torch.cat(base), [torch.stack(parts, 1) for parts in found]


STRANGE = (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What a stranger's layer raises where it is not given all that it was written for."""


def _why_not_skip(
    reader: Reader,
    last: nn.Module,
    outputs: dict[nn.Module, Any],
    window: Tensor,
    target: Tensor,
    losses: Tensor,
) -> str | None:
    """Why the last layer alone, on what the others gave, has not the same losses; None if it has.

    It has not where a layer hands on more than its output, or lays it out in another way.

    Raises:
        Exception: what is no sign of that, such as running out of memory.
    """
    try:
        with _skipping(reader.model, last, outputs, 2):
            batch = window.expand(2, -1), target.expand(2, -1)
            again = reader.losses(*batch, lambda _module, call, config: attend(call, config))
    except STRANGE as error:  # if the model itself is wrong, it shows when all of it runs
        cause = error.__cause__ or error  # what `ask` has put into a sentence about the model
        if out_of_memory(cause):
            raise
        return reason(cause)
    off = float((again - losses).abs().max())
    if off <= torch.finfo(reader.model.dtype).eps ** 0.5 * max(1.0, float(losses.max())):
        return None
    return f"their losses move by {off:.2g} nats"


def _ablated(layer: nn.Module, heads: Sequence[int]) -> Watcher:
    """In this layer, sequence i of the batch has head `heads[i]` replaced."""

    def watcher(module: nn.Module, call: Call, config: Normalizer) -> Tensor:
        out = attend(call, config)
        if module is layer:
            means = _mean_of_visible(call)
            out = out.clone()
            for i, head in enumerate(heads):
                out[i, head] = means[i, head]
        return out

    return watcher


def _mean_of_visible(call: Call) -> Tensor:
    """(B, H, Q, Dv); zeros where nothing is visible."""
    _, value = every_head(call)
    visible = visible_keys(call)
    if visible is None:
        return value.mean(2, keepdim=True).expand(*value.shape[:2], call.query.shape[2], -1)
    shares = visible.to(value.dtype)
    return (shares / shares.sum(-1, keepdim=True).clamp(min=1)) @ value


@contextmanager
def _skipping(
    model: Any, module: nn.Module, outputs: dict[nn.Module, Any], count: int
) -> Iterator[None]:
    """Inside, the layers below that of `module` give what they gave, for a batch of `count`."""
    layers = decoder_layers(model) if outputs else []
    below = list(
        takewhile(lambda layer: all(part is not module for part in layer.modules()), layers)
    )
    if len(below) == len(layers):
        below = []  # an attention layer outside the stack: nothing is known to be below it
    forwards = []  # what a library has wrapped, or None
    try:
        for layer in below:
            again = _repeated(outputs[layer], count)
            forwards.append(vars(layer).get("forward"))
            layer.forward = _giving(layer, again)
        yield
    finally:
        for layer, forward in zip(below, forwards, strict=False):
            del layer.forward
            if forward is not None:
                layer.forward = forward


def _giving(layer: nn.Module, output: Any) -> Callable[..., Any]:
    """A forward that gives this; the normalizers of its layer are not gone past, but done."""

    def forward(*_args: Any, **_kwargs: Any) -> Any:
        for part in layer.modules():
            arrive(part)
        return output

    return forward


def _repeated(output: Any, count: int) -> Any:
    if isinstance(output, Tensor):
        return output.expand(count, *output.shape[1:])
    return (_repeated(output[0], count), *output[1:])
