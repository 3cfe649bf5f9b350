"""How spread the weights of a query are, and how much of all attention one key draws."""

import torch
from torch import Tensor


@torch.no_grad()
def entropy(weights: Tensor) -> Tensor:
    """Entropy of each row in nats: (..., K) to (...).

    A row that sums to m < 1 is described by weights / m; a row of zeros has entropy 0.

    Args:
        weights: (..., K) >= 0.
    """
    weights = weights.to(torch.promote_types(weights.dtype, torch.float32))
    total = weights.sum(-1, keepdim=True)
    shares = weights / total.where(total > 0, 1)
    return torch.special.entr(shares, out=shares).sum(-1)


@torch.no_grad()
def sink_importance(weights: Tensor, visible: Tensor, key: int = 0) -> Tensor:
    """Mean weight of one key over the queries that see it: (..., Q, K) to (...).

    Gu et al. 2024 (arXiv:2410.10781), where a head has a sink if this exceeds 0.3.  NaN where no
    query sees the key.

    Args:
        weights: (..., Q, K).
        visible: (Q, K) or (..., Q, K) bool.
        key: the first of the sequence in the paper.
    """
    seen = visible[..., key].expand(weights.shape[:-1])
    column = weights[..., key].to(torch.promote_types(weights.dtype, torch.float32))
    return (column * seen).sum(-1) / seen.sum(-1)
