"""Whole distributions over the vocabulary: clear, differentiable any number of times, N x V.

They are what generation and audits call, and the specification of the fused loss.
"""

import torch
from torch import Tensor

from wideneck.config import Activation, activation_config
from wideneck.errors import WideneckError
from wideneck.functional.affine import affine, is_number


def log_score(logits: Tensor, activation: str | Activation = "softmax") -> Tensor:
    """f(z), the log of the unnormalized probability, up to a constant of the activation.

    Args:
        logits: any shape, floating point.
        activation: name or config; see `wideneck heads`.  Its numbers may be tensors that broadcast
            to the logits.

    Returns:
        The shape of `logits`, at least float32, finite for every finite logit.
    """
    z, _, form = _placed(logits, activation)
    return _finite(form.log_score(z))


def slope(logits: Tensor, activation: str | Activation = "softmax") -> Tensor:
    """f'(z), the factor that the activation puts on the softmax's gradient (p - y).

    Returns:
        The shape of `logits`, at least float32, finite for every finite logit.
    """
    z, a, form = _placed(logits, activation)
    return _finite(form.slope(z) * a)


def log_prob(logits: Tensor, activation: str | Activation = "softmax") -> Tensor:
    """The log-probabilities log p_i = f(z_i) - log sum_j exp(f(z_j)).

    Args:
        logits: (..., V), floating point.
        activation: name or config; see `wideneck heads`.  Its numbers may be tensors that broadcast
            to the logits.

    Returns:
        (..., V), natural logarithms, at least float32.
    """
    return log_score(logits, activation).log_softmax(-1)


def log_mixture(log_prior: Tensor, log_probs: Tensor) -> Tensor:
    """The log of sum_k pi_k p_k  (Yang et al. 2018, section 2.3), without leaving log space.

    Args:
        log_prior: (..., K), the logarithms of weights that sum to one.
        log_probs: (..., K, V).

    Returns:
        (..., V).
    """
    if log_prior.shape != log_probs.shape[:-1]:
        raise WideneckError(
            f"log_prior must have the shape of log_probs without its last dimension, "
            f"{tuple(log_probs.shape[:-1])}; got {tuple(log_prior.shape)}."
        )
    return torch.logsumexp(log_prior.unsqueeze(-1) + log_probs, dim=-2)


def widened(*tensors: Tensor) -> torch.dtype:
    """The dtype to compute in: the widest of the tensors', at least float32."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def _placed(logits: Tensor, activation: str | Activation):
    if not logits.is_floating_point():
        raise WideneckError(f"Logits must be floating point, got {logits.dtype}.")
    z = logits.to(widened(logits))
    a, shift, form = affine(activation_config(activation), z, z.shape)
    if not is_number(a, 1):
        z = z * a
    if not is_number(shift, 0):
        z = z + shift
    return z, a, form


def _finite(x: Tensor) -> Tensor:
    """Twice a logit near the end of the dtype's range stays in it; NaN stays NaN."""
    limits = torch.finfo(x.dtype)
    return x.clamp(limits.min, limits.max)
