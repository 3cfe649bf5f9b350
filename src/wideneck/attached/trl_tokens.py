"""Stand-in."""

from types import SimpleNamespace


def tokens_of(run, options, target, wanted, temperature):
    """Dense."""
    options = {**options, "use_cache": False}
    result = run(options)
    logp = result.logits.float()
    if temperature != 1:
        logp = (logp / temperature).log_softmax(-1)
    target = target.to(logp.device)
    kept = target != -100
    safe = target.clamp(min=0)
    p = logp.exp()
    at = logp.gather(-1, safe[..., None])[..., 0]
    made = {
        "log_prob": at,
        "entropy": -(p * logp.clamp(min=-1e4)).sum(-1),
        "log_sum_sq_prob": (2 * logp).logsumexp(-1).detach(),
        "mean_log_prob": logp.mean(-1).detach(),
        "top1": logp.argmax(-1) == safe,
    }
    fields = {n: (v.masked_fill(~kept, 0) if n in wanted else None) for n, v in made.items()}
    return SimpleNamespace(**fields), result
