"""One pass of the model over the text: what every measure of the output layer starts from.

Keeps the hidden states that enter the head (N x D, small) and lets all else go by: cosines of
every layer are accumulated while the pass runs, logits are formed again later, chunk by chunk.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from wideneck.audits.measure import measure
from wideneck.audits.measured import UnmeasurableError
from wideneck.data import Windows
from wideneck.models import ask
from wideneck.models.batches import Batches
from wideneck.models.devices import in_float64
from wideneck.models.ranks import ALONE, Ranks
from wideneck.models.reading import decoder_layers, entering_head, hearing

PROBE = 4

Progress = Callable[[str, int, int], None]
"""Called as progress(stage, done, total)."""

Observer = Callable[[str, int, Tensor], Any]
"""Called as observer(layer, start, hidden): the states (B, P + T, D) of windows `start` onwards at
one depth, named as in `LayerAnisotropy`; they are gone once it returns.  What it gives is handed to
`Keep`."""

Keep = Callable[[str, int, Any], None]
"""Called as keep(layer, start, what the observer gave), in the order of the windows: the observer
itself may have run in another process."""


@dataclass(frozen=True, kw_only=True)
class LayerAnisotropy:
    """Mean cosine of two different hidden states at one depth."""

    layer: str = measure(
        "where: embeddings, the output of layer 1 ... L (the last of them before the final norm), "
        "or entering the head (after the final norm)"
    )
    mean_cosine: float = measure(
        "(||sum_i h_i / ||h_i|| ||^2 - n) / (n^2 - n) over all n positions, exact",
        caution="dominated by the mean state; a description, not a defect",
    )
    mean_cosine_without_first: float = measure(
        "the same without the first position of each window, where many models keep one very "
        "long state of the same direction (an attention sink)"
    )


@dataclass(frozen=True, kw_only=True)
class HiddenStates:
    """Hidden states entering the head, with their targets."""

    hidden: Tensor
    """(W, T, D) float32: what the head multiplies, after the final norm."""
    targets: Tensor
    """(W, T)."""
    document: Tensor
    """(W,)."""
    num_bytes: Tensor
    """(W,)."""
    anisotropy: list[LayerAnisotropy]
    last_logits: Tensor
    """(PROBE, V): the model's own logits at the last positions of the first window, to check
    that head, bias and logit map explain them."""

    def to(self, device: torch.device) -> "HiddenStates":
        """The same with states, targets and logits there."""
        moved = {n: getattr(self, n).to(device) for n in ("hidden", "targets", "last_logits")}
        return replace(self, **moved)

    @property
    def probe(self) -> tuple[Tensor, Tensor]:
        """States (n, D) and the model's own logits (n, V) at the last positions of a window."""
        seen = min(self.hidden.shape[1], len(self.last_logits))
        return self.hidden[0, -seen:], self.last_logits[-seen:]


@dataclass(frozen=True)
class _Seen:
    """What is kept of one window."""

    hidden: Tensor
    """(T, D)."""
    cosines: dict[str, tuple[Tensor, Tensor]]
    """By depth, `_sums` of the window."""
    probe: Tensor | None
    """Logits at the last positions, of the first window."""
    kept: list[tuple[str, int, Any]]
    """What the observer gave, with the first of the windows that it saw."""


def _sums(hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Of the states (P + T, D) of a window: the sums (2, D) of unit vectors, and how many (2,).

    With and without the first position.
    """
    unit = in_float64(hidden)
    norm = unit.norm(dim=-1, keepdim=True)
    unit = torch.where(norm > 0, unit / norm, 0)
    both = unit, unit[1:]
    counts = torch.stack([(kept != 0).any(-1).sum() for kept in both])
    return torch.stack([kept.sum(0) for kept in both]).cpu(), counts.cpu()


def _cosine(layer: str, sums: Tensor, counts: Tensor) -> LayerAnisotropy:
    everywhere, without_first = (
        (total.square().sum().item() - n) / max(n * (n - 1), 1)
        for total, n in zip(sums, counts.tolist(), strict=True)
    )
    return LayerAnisotropy(
        layer=layer, mean_cosine=everywhere, mean_cosine_without_first=without_first
    )


@torch.no_grad()
def collect_states(
    model: Any,
    windows: Windows,
    *,
    batch: int | None = None,
    ranks: Ranks = ALONE,
    observer: Observer | None = None,
    keep: Keep | None = None,
    progress: Progress | None = None,
) -> HiddenStates:
    """Run `model` (a Hugging Face causal LM in eval mode) over the windows.

    Args:
        batch: windows at a time; None for what suits the model.
        ranks: the processes that share the windows.
        observer: sees the states of every depth as they pass.
        keep: takes what the observer gave.

    Raises:
        UnmeasurableError: the output layer is not called once a pass, or a state is not finite.
        WideneckError: one window does not fit the memory.
    """
    layers = decoder_layers(model)
    names = ["embeddings", *(f"layer {i + 1}" for i in range(len(layers)))] if layers else []
    depth = dict(zip(layers, names[1:], strict=True))
    num_windows, length = windows.ids.shape
    batches = Batches(model, batch, length)
    passed: list[tuple[str, list[tuple[Tensor, Tensor]], Any]] = []
    start = 0

    def see(layer: str, states: Tensor) -> None:
        given = None if observer is None else observer(layer, start, states)
        passed.append((layer, [_sums(one) for one in states], given))

    def given(module: nn.Module, output: Any) -> None:
        see(depth[module], output if isinstance(output, Tensor) else output[0])

    def run(rows: Sequence[int]) -> list[_Seen]:
        nonlocal start
        start = rows[0]
        passed.clear()
        entering.calls.clear()
        logits = ask(model, input_ids=windows.ids[start : rows[-1] + 1], use_cache=False).logits
        states = entering.only()
        if not states.isfinite().all():
            raise UnmeasurableError(
                f"{type(model).__name__} gives hidden states that are not finite on this text; "
                "load it in a wider dtype."
            )
        see("entering the head", states)
        # Positions before the text (a BOS token) predict its first token; T of them count.
        hidden = states[:, -windows.targets.shape[1] :].float().cpu()
        kept = [(layer, start, given) for layer, _, given in passed]
        return [
            _Seen(
                hidden=one.clone(),  # a view would be sent to other processes with all the rest
                cosines={layer: sums[i] for layer, sums, _ in passed},
                probe=logits[0].cpu() if start + i == 0 else None,
                kept=kept if i == 0 else [],
            )
            for i, one in enumerate(hidden)
        ]

    groups, hidden, probe = batches.groups([length] * num_windows), [], torch.empty(0)
    totals: dict[str, tuple[Tensor, Tensor]] = {}
    with (
        entering_head(model, last=PROBE, refused=UnmeasurableError) as entering,
        hearing(before=layers[:1], seen=lambda _, states: see("embeddings", states)),
        hearing(after=layers, seen=given),
    ):
        for seen in ranks.in_order(len(groups), lambda i: batches.read(groups[i], run)):
            for one in seen:
                hidden.append(one.hidden)
                probe = probe if one.probe is None else one.probe
                for layer, (sums, counts) in one.cosines.items():
                    before = totals.get(layer)
                    totals[layer] = (
                        (sums, counts) if before is None else (before[0] + sums, before[1] + counts)
                    )
                if keep is not None:
                    for layer, first, found in one.kept:
                        keep(layer, first, found)
            if progress:
                progress("reading the text", len(hidden), num_windows)
    return HiddenStates(
        hidden=torch.stack(hidden),
        targets=windows.targets,
        document=windows.document,
        num_bytes=windows.num_bytes,
        anisotropy=[_cosine(name, *totals[name]) for name in [*names, "entering the head"]],
        last_logits=probe,
    )
