"""Teachers, and the slow twin of what compares with them, in torch's own formulas."""

import torch
import torch.nn.functional as F

import wideneck.functional as fn
from functional.fused_examples import inputs


def log_probs_of(given, activation="softmax", temperature=1.0):
    """(N, V), tempered."""
    log_p = fn.log_prob(
        F.linear(given["input"], given["linear_weight"], given["linear_bias"]), activation
    )
    if given["log_prior"] is not None:
        log_p = fn.log_mixture(given["log_prior"].log_softmax(-1), log_p)
    T = torch.as_tensor(temperature, dtype=log_p.dtype).expand(len(log_p))[:, None]
    return (log_p / T).log_softmax(-1)


def divergence_of(log_s, log_t, beta=0.0):
    """(N,), by `F.kl_div` as TRL's generalized_jsd_loss has it."""

    def kl(log_q, log_p):  # KL(p || q)
        return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)

    if beta == 0:
        return kl(log_s, log_t)
    if beta == 1:
        return kl(log_t, log_s)
    log_m = (beta * log_t.exp() + (1 - beta) * log_s.exp()).log()
    return beta * kl(log_m, log_t) + (1 - beta) * kl(log_m, log_s)


def teacher_inputs(mixture=False, *, N=7, K=2, D=4, V=11, dtype=torch.float64):
    """The layer of a teacher, narrower than the student, and its states."""
    given = inputs(mixture, N=N, K=K, D=D, V=V, dtype=dtype)
    given.pop("target")
    return {k: None if v is None else v.detach() for k, v in given.items()}


def soft_targets(N=7, M=3, V=11, dtype=torch.float64):
    """Ids and probabilities whose sum is below 1, one of them masked."""
    ids = torch.stack([torch.randperm(V)[:M] for _ in range(N)])
    probs = torch.rand(N, M, dtype=dtype) / M
    probs[1, -1] = 0
    return {"soft_ids": ids, "soft_probs": probs}
