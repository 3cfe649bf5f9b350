"""What a model does to its logits after the output layer, measured instead of looked up.

Gemma caps them softly, Granite divides them, HyperCLOVA X multiplies them under the same config
key; a soft cap is not linear and changes every bound on ranks.  So the output layer is made to
return known numbers, and the model's final logits show the map:

    z = r                              identity
    z = scale * r                      scale
    z = cap * tanh(scale * r / cap)    softcap

Cost: one forward pass of four tokens.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn

from wideneck.config import ScaledSoftmax, SoftCap, Softmax
from wideneck.errors import WideneckError
from wideneck.heads.head import Head
from wideneck.models.asking import ask
from wideneck.models.head_weights import head_in, output_layer

AMPLITUDES = (100.0, 100.0, 10.0, 0.5)
"""Largest raw logit of each position.  Several, so that a map which depends on the whole vector
(a norm, a log-sum-exp) shows; small ones, so that a low cap still leaves a slope to see."""
TOLERANCE = 8
"""Roundings of the logits' type between the formula and the model."""


@dataclass(frozen=True)
class LogitMap:
    """The pointwise map from raw logits (the output layer's) to final logits (the model's)."""

    kind: Literal["identity", "scale", "softcap"]
    scale: float = 1.0
    cap: float | None = None

    @property
    def is_linear(self) -> bool:
        """Whether final logits are a multiple of the raw ones."""
        return self.cap is None

    def activation(self) -> Softmax | SoftCap:
        """What makes probabilities of raw logits times `scale`."""
        return Softmax() if self.cap is None else SoftCap(cap=self.cap)

    def __call__(self, raw: Tensor) -> Tensor:
        """Final logits, of the same shape."""
        if self.kind == "identity":
            return raw
        if self.cap is None:
            return raw * self.scale
        return self.cap * torch.tanh(raw * (self.scale / self.cap))

    def derivative(self, raw: Tensor) -> Tensor:
        """Slope of the map at each raw logit, of the same shape."""
        if self.cap is None:
            return torch.full_like(raw, self.scale)
        return self.scale * (1 - torch.tanh(raw * (self.scale / self.cap)).square())


@torch.no_grad()
def measure_logit_map(model: nn.Module) -> LogitMap:
    """Find the map by feeding known raw logits through the rest of the model.

    A map that is neither identity, scale nor tanh cap, or that is not the same for every token
    id and every position, is refused: measures that assumed one would be wrong.

    A head of wideneck says itself what it does to the scores of its matrix before its softmax; it
    is the identity for one that is not one softmax, whose output nothing changes.
    """
    head = head_in(model)
    if head is not None:
        return _of_head(head)
    raw, final = _probe(model)
    precision = torch.finfo(final.dtype).eps
    raw, final = raw.double().flatten(), final.double().flatten()
    if torch.equal(raw, final):
        return LogitMap("identity")
    if final.isfinite().all():
        for found in chain(_scales(raw, final), _softcaps(raw, final)):
            if ((found(raw) - final).abs() <= TOLERANCE * precision * final.abs()).all():
                return found
    raise _not_understood(model, raw, final)


def _of_head(head: Head) -> LogitMap:
    activation, scale = head.activation(), head.logit_scale
    if isinstance(head.config, SoftCap):
        return LogitMap("softcap", scale, head.config.cap)
    if isinstance(activation, ScaledSoftmax) and isinstance(head.config, ScaledSoftmax):
        scale *= float(activation.scale)
    elif not isinstance(head.config, Softmax):
        return LogitMap("identity")
    return LogitMap("identity") if scale == 1 else LogitMap("scale", scale)


def _probe(model: Any) -> tuple[Tensor, Tensor]:
    """Raw logits put in place of the output layer's, and the logits that come out."""
    head = output_layer(model)
    put: list[Tensor] = []

    def replace(_module: nn.Module, _args: Any, result: Any) -> Tensor:
        raw = _grid(result.shape[-1]).to(result.device)
        put.append(raw)
        return raw.reshape(result.shape)

    num_tokens = len(AMPLITUDES)
    ids = torch.arange(num_tokens) % head.weight.shape[0]
    inputs = {"input_ids": ids[None]}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids[None]
    hook = head.register_forward_hook(replace)
    try:
        final = ask(model, **inputs).logits
    finally:
        hook.remove()
    if len(put) != 1 or final.numel() != put[0].numel():
        raise WideneckError(
            f"{type(model).__name__} should call its output layer once and give one logit for "
            f"each row of it; it called it {len(put)} times and gave logits of shape "
            f"{tuple(final.shape)}, so its measures would be wrong and wideneck stops."
        )
    return put[0].cpu(), final.reshape(num_tokens, -1).cpu()


def _grid(vocab_size: int) -> Tensor:
    """(4, V) known logits: an even grid, in an order of its own at every position."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for position, amplitude in enumerate(AMPLITUDES):
        row = torch.linspace(-amplitude, amplitude, vocab_size)
        order = torch.randperm(vocab_size, generator=generator)
        rows.append(row if position == 0 else row[order])
    return torch.stack(rows)


def _scales(raw: Tensor, final: Tensor) -> Iterator[LogitMap]:
    seen = raw != 0
    ratio = final[seen] / raw[seen]
    scale, error = float(ratio.mean()), float(ratio.std()) / math.sqrt(len(ratio))
    for candidate in (_simplest(scale, error), scale):
        if candidate:
            yield LogitMap("scale", candidate)


def _softcaps(raw: Tensor, final: Tensor) -> Iterator[LogitMap]:
    """Slope from the smallest logits, cap from the largest, then both by Gauss-Newton."""
    seen = (raw != 0) & (final != 0)
    raw_seen, final_seen = raw[seen], final[seen]
    if len(raw_seen) < 3:
        return
    smallest, largest = raw_seen.abs().argmin(), raw_seen.abs().argmax()
    scale = float(final_seen[smallest] / raw_seen[smallest])
    if scale <= 0:
        return
    cap = _solve_cap(scale * float(raw_seen[largest].abs()), float(final_seen[largest].abs()))
    if cap is None:
        return
    (scale, scale_error), (cap, cap_error) = _polish(raw_seen, final_seen, scale, cap)
    for s in (_simplest(scale, scale_error), scale):
        for c in (_simplest(cap, cap_error), cap):
            yield LogitMap("softcap", s, c)


def _solve_cap(linear: float, capped: float) -> float | None:
    """The cap with cap * tanh(linear / cap) = capped, by bisection on its logarithm."""
    if not 0 < capped < linear:
        return None

    def excess(cap: float) -> float:
        return cap * math.tanh(linear / cap) - capped

    low, high = capped, 1e6 * linear
    if excess(high) <= 0:
        return None
    for _ in range(200):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if excess(middle) > 0 else (middle, high)
    return high


def _polish(raw: Tensor, final: Tensor, scale: float, cap: float) -> list[tuple[float, float]]:
    """(scale, its standard error), (cap, its own): least squares of the relative error."""
    logs = torch.tensor([math.log(scale), math.log(cap)], dtype=torch.float64)
    for _ in range(20):
        s, c = logs.exp()
        u = raw * s / c
        tanh = torch.tanh(u)
        slope = u * (1 - tanh.square())  # d tanh / d log u
        error = c * tanh / final - 1
        jacobian = torch.stack([c * slope / final, c * (tanh - slope) / final], dim=1)
        step = torch.linalg.lstsq(jacobian, error[:, None], driver="gelsd").solution[:, 0]
        logs = logs - step.clamp(-1, 1)
        if step.abs().max() < 1e-14:
            break
    variance = error.square().sum() / (len(error) - 2)
    spread = (variance * torch.linalg.pinv(jacobian.T @ jacobian).diag()).clamp(min=0).sqrt()
    values = logs.exp()
    return list(zip(values.tolist(), (values * spread).tolist(), strict=True))


def _simplest(value: float, error: float) -> float:
    """The simplest fraction within 4 standard errors of the fit; else the value itself.

    People write 30 or 1/8, so that, and not 29.9999983, is what the model holds.
    """
    tolerance = min(4 * error + 1e-15 * abs(value), 1e-3 * abs(value))
    if not tolerance:
        return value
    for small in range(1, 65):
        candidates = [round(value * small) / small]
        if round(small / value):
            candidates.append(small / round(small / value))
        for candidate in candidates:
            if candidate and abs(candidate - value) <= tolerance:
                return candidate
    return value


def _not_understood(model: nn.Module, raw: Tensor, final: Tensor) -> WideneckError:
    wrong = (~final.isfinite()).nonzero().flatten()
    seen = int(wrong[0]) if len(wrong) else int((raw - 50).abs().argmin())
    return WideneckError(
        f"{type(model).__name__} changes its logits after the output layer in a way that is not "
        "understood (neither identity, scale nor tanh cap, the same for every token; for "
        f"example {raw[seen]:.4g} became {final[seen]:.4g}), so its measures would be wrong and "
        "wideneck stops."
    )
