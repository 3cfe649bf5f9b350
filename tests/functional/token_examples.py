"""The slow twin of the token outputs: the whole distribution, in plain operations."""

import torch
import torch.nn.functional as F

import wideneck.functional as fn
from wideneck.functional.token_outputs import TokenOutputs

ALL = ("log_prob", "entropy", "log_sum_sq_prob", "mean_log_prob", "top1")


def dense(
    input, linear_weight, target, *, linear_bias=None, activation="softmax", log_prior=None,
    temperature=1.0,
):  # fmt: skip
    """Every output, from all N x V log-probabilities."""
    log_p = fn.log_prob(F.linear(input, linear_weight, linear_bias), activation)
    if log_prior is not None:
        log_p = fn.log_mixture(log_prior.log_softmax(-1), log_p)
    return of_log_probs(log_p, target, temperature)


def of_log_probs(log_p, target, temperature=1.0):
    """Every output of log-probabilities (..., V)."""
    T = torch.as_tensor(temperature, dtype=log_p.dtype).expand(target.shape)[..., None]
    log_p, kept = (log_p / T).log_softmax(-1), target != -100
    p = log_p.exp()
    at = target.clamp(min=0)[..., None]
    told = {
        "log_prob": log_p.gather(-1, at)[..., 0],
        "entropy": -(p * log_p).sum(-1),
        "log_sum_sq_prob": p.square().sum(-1).log(),
        "mean_log_prob": log_p.mean(-1),
    }
    told = {name: torch.where(kept, value, 0) for name, value in told.items()}
    return TokenOutputs(**told, top1=(log_p.argmax(-1) == target) & kept)
