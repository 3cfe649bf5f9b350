"""What is told of each checkpoint of a family of models (Godey et al. 2024, Figures 1a, 4 and 5).

W is the output layer, V x D; H the hidden states that it multiplies on held-out text, N x D.  The
paper measures W as stored.  A softmax does not see the mean row, so everything comes centred too.
Cost: three products of (V + N) D^2 operations and four eigenvalue problems of D x D.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from wideneck.audits.geometry import measure_geometry
from wideneck.audits.measure import measure
from wideneck.audits.spectrum import Spectrum
from wideneck.errors import WideneckError


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
