"""One pass of the model over the text: what every measure of the output layer starts from.

Keeps the hidden states that enter the head (N x D, small) and lets all else go by: cosines of
every layer are accumulated while the pass runs, logits are formed again later, chunk by chunk.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wideneck.audits.measure import measure
from wideneck.audits.measured import UnmeasurableError
from wideneck.data import Windows
from wideneck.models import ask
from wideneck.models.reading import decoder_layers, entering_head, hearing

PROBE = 4
BATCH = 2

Progress = Callable[[str, int, int], None]
"""Called as progress(stage, done, total)."""

Observer = Callable[[str, int, Tensor], None]
"""Called as observer(layer, start, hidden): the states (B, P + T, D) of windows `start` onwards at
one depth, named as in `LayerAnisotropy`; they are gone once it returns."""


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

    @property
    def probe(self) -> tuple[Tensor, Tensor]:
        """States (n, D) and the model's own logits (n, V) at the last positions of a window."""
        seen = min(self.hidden.shape[1], len(self.last_logits))
        return self.hidden[0, -seen:], self.last_logits[-seen:]


class _Cosines:
    """Streaming mean cosine, with and without the first position."""

    def __init__(self):
        self.sums = [torch.zeros((), dtype=torch.float64)] * 2
        self.counts = [0, 0]

    def add(self, hidden: Tensor) -> None:
        unit = hidden.cpu().double()  # first to the CPU: not every accelerator has float64
        norm = unit.norm(dim=-1, keepdim=True)
        unit = torch.where(norm > 0, unit / norm, 0)
        for k, kept in enumerate((unit, unit[:, 1:])):
            self.sums[k] = self.sums[k] + kept.sum((0, 1))
            self.counts[k] += int((kept != 0).any(-1).sum())

    def means(self, layer: str) -> LayerAnisotropy:
        everywhere, without_first = (
            (total.square().sum().item() - n) / max(n * (n - 1), 1)
            for total, n in zip(self.sums, self.counts, strict=True)
        )
        return LayerAnisotropy(
            layer=layer, mean_cosine=everywhere, mean_cosine_without_first=without_first
        )


@torch.no_grad()
def collect_states(
    model: Any,
    windows: Windows,
    *,
    observer: Observer | None = None,
    progress: Progress | None = None,
) -> HiddenStates:
    """Run `model` (a Hugging Face causal LM in eval mode) over the windows.

    Args:
        observer: sees the states of every depth as they pass.

    Raises:
        UnmeasurableError: the output layer is not called once a pass, or a state is not finite.
    """
    layers = decoder_layers(model)
    names = ["embeddings", *(f"layer {i + 1}" for i in range(len(layers)))] if layers else []
    cosines = {name: _Cosines() for name in [*names, "entering the head"]}
    depth = dict(zip(layers, names[1:], strict=True))
    hidden, probe = [], torch.empty(0)
    start = 0

    def passed(layer: str, states: Tensor) -> None:
        cosines[layer].add(states)
        if observer is not None:
            observer(layer, start, states)

    def given(module: nn.Module, output: Any) -> None:
        passed(depth[module], output if isinstance(output, Tensor) else output[0])

    with (
        entering_head(model, last=PROBE, refused=UnmeasurableError) as entering,
        hearing(before=layers[:1], seen=lambda _, states: passed("embeddings", states)),
        hearing(after=layers, seen=given),
    ):
        for start in range(0, len(windows.ids), BATCH):
            entering.calls.clear()
            ids = windows.ids[start : start + BATCH].to(model.device)
            logits = ask(model, input_ids=ids, use_cache=False).logits
            states = entering.only()
            if not states.isfinite().all():
                raise UnmeasurableError(
                    f"{type(model).__name__} gives hidden states that are not finite on this text; "
                    "load it in a wider dtype."
                )
            passed("entering the head", states)
            # Positions before the text (a BOS token) predict its first token; T of them count.
            hidden.append(states[:, -windows.targets.shape[1] :].float().cpu())
            if start == 0:
                probe = logits[0].cpu()
            if progress:
                progress("reading the text", min(start + BATCH, len(windows.ids)), len(windows.ids))
    return HiddenStates(
        hidden=torch.cat(hidden),
        targets=windows.targets,
        document=windows.document,
        num_bytes=windows.num_bytes,
        anisotropy=[streaming.means(name) for name, streaming in cosines.items()],
        last_logits=probe,
    )
