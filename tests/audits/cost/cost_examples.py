"""A head, states and dense float64 twins for section "cost"."""

import torch

from wideneck.audits.clock import Clock
from wideneck.audits.cost.section import audit_cost
from wideneck.audits.output.layer import OutputLayer
from wideneck.audits.states import HiddenStates
from wideneck.models import LogitMap

V, D, W, T = 192, 64, 8, 40
IDENTITY = LogitMap("identity")


def layer(cap=None, scale=1.0, bias=True):
    g = torch.Generator().manual_seed(0)
    kind = "identity" if cap is None and scale == 1 else "softcap" if cap else "scale"
    return OutputLayer(
        torch.randn(V, D, generator=g),
        torch.randn(V, generator=g) if bias else None,
        LogitMap(kind, scale, cap),
    )


def states(windows=W, num_documents=4, length=T):
    g = torch.Generator().manual_seed(1)
    return HiddenStates(
        hidden=torch.randn(windows, length, D, generator=g) * 0.3,
        targets=torch.randint(V, (windows, length), generator=g),
        document=torch.arange(windows) % num_documents,
        num_bytes=torch.full((windows,), 4 * length),
        anisotropy=[],
        last_logits=torch.empty(0),
    )


def wide(head):
    bias = None if head.bias is None else head.bias.double()
    return OutputLayer(head.weight.double(), bias, head.logit_map)


def slow(head, cheap, hidden, targets):
    """Every field of `Apart`, in float64 from log-probabilities."""
    z, other = head.logits(hidden.double()), cheap(hidden.double())
    p, q = z.log_softmax(1), other.log_softmax(1)
    y = targets[:, None]
    change = other - z
    mean = (p.exp() * change).sum(1, keepdim=True)
    return {
        "kl": (p.exp() * (p - q)).sum(1),
        "nats": (p.gather(1, y) - q.gather(1, y))[:, 0],
        "same": (p.argmax(1) == q.argmax(1)).double(),
        "acceptance": torch.minimum(p.exp(), q.exp()).sum(1),
        "half_variance": (p.exp() * (change - mean) ** 2).sum(1) / 2,
        "probability": (q.gather(1, y).exp() - p.gather(1, y).exp())[:, 0],
    }


def found_of(head=None, text=None, **options):
    head = layer() if head is None else head
    counts = torch.arange(V)
    return audit_cost(
        head, states() if text is None else text, counts, stored="float32", clock=Clock(), **options
    )
