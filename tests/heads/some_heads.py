"""Small heads for the tests: every head of the registry, with a bias and odd options."""

import torch

from wideneck import config as c
from wideneck import heads

D, V, N = 4, 9, 6

CASES = {
    **{name: {"head": name} for name in c.HEADS if name not in ("plif", "low_rank")},
    "plif": {"head": "plif", "num_knots": 9, "reach": 2.0},
    "low_rank": {"head": "low_rank", "rank": 2},
    "low_rank with bias": {"head": "low_rank", "rank": 3, "bias": True, "logit_scale": 0.7},
    "narrow mos": {"head": "mos", "embedding_size": 3, "bias": True},
    "wide moss": {"head": "moss", "embedding_size": 6, "num_components": 2},
    "wide moc": {"head": "moc", "embedding_size": 6, "bias": True},
    "softmax with bias": {"head": "softmax", "bias": True},
    "learned sigsoftmax": {"head": "sigsoftmax", "learned": True, "shift": 0.3, "bias": True},
    "learned sigmoid": {"head": "sigmoid", "learned": True},
    "learned gss": {"head": "gss", "learned": True, "bend": -0.5, "slope": 2.5},
    "scaled logits": {"head": "softcap", "cap": 1.0, "logit_scale": 0.7, "bias": True},
    "residual moc": {"head": "moc", "projection": "residual", "num_components": 3},
    "residual moss": {"head": "moss", "projection": "residual", "bias": True},
    "mixture of learned gss": {"head": "mos", "activation": c.GSS(learned=True), "bias": True},
    "mixture of plif": {"head": "mos", "activation": c.PLIF(num_knots=9, reach=2.0)},
}


def some_head(case: str, *, hidden_size: int = D, vocab_size: int = V) -> heads.Head:
    """A head with every parameter off its start, so that none hides; in float32."""
    options = dict(CASES[case])
    torch.manual_seed(0)
    head = heads.build(
        options.pop("head"), hidden_size=hidden_size, vocab_size=vocab_size, **options
    )
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.3 * torch.rand_like(parameter))
    return head


def some_tokens(*leading: int, dtype=torch.float32, hidden_size: int = D, vocab_size: int = V):
    """Hidden states and targets, one of them ignored."""
    generator = torch.Generator().manual_seed(1)
    shape = leading or (N,)
    hidden = 2 * torch.randn(*shape, hidden_size, generator=generator, dtype=torch.float64)
    target = torch.randint(vocab_size, shape, generator=generator)
    target.view(-1)[1] = -100
    return hidden.to(dtype), target
