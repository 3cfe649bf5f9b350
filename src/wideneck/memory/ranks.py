"""The ranks of memories: how near their tokens are to the target, by cosine of the embeddings."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

Embedding = Tensor | Callable[[Tensor], Tensor]
"""(V, D), or what gives the rows (..., D) of ids that stand in the memory."""


@dataclass(frozen=True)
class Rows:
    """The rows of some tokens, for the ids among them."""

    ids: Tensor
    """(n,), ascending."""
    rows: Tensor
    """(n, D)."""

    def __call__(self, ids: Tensor) -> Tensor:
        """(..., D), for ids that are there."""
        at = torch.searchsorted(self.ids, ids.to(self.ids.device))
        return self.rows[at.to(self.rows.device)].to(ids.device)


@final
class Ranks:
    """Ranks of the memories of R queries, made for some queries at a time.

    From the nearest on, from 0; among equals in the order of the memories.  A token is nearest to
    itself, whatever rounding says.

    Args:
        values: (B, M), token ids.
        target: (B, Q), token ids.
        row: sequence and query of each of the R.
        embedding: (V, D), or a function from ids to rows.
        visible: (B, Q, M), those that are not visible come last; None to rank all alike.

    Cost: once the cosines of the batch's distinct tokens, then R M log M.
    """

    @torch.no_grad()
    def __init__(
        self,
        values: Tensor,
        target: Tensor,
        row: tuple[Tensor, ...],
        embedding: Embedding,
        visible: Tensor | None,
    ):
        self.row, self.visible = row, visible
        ids, index = torch.cat([values.flatten(), target[row]]).unique(return_inverse=True)
        self.token, at_target = index[: values.numel()].view(values.shape), index[values.numel() :]
        wanted, self.target = at_target.unique(return_inverse=True)
        rows = embedding.detach()[ids] if isinstance(embedding, Tensor) else embedding(ids)
        unit = F.normalize(rows.to(torch.promote_types(rows.dtype, torch.float32)), dim=-1)
        self.cosine = unit[wanted] @ unit.T
        at = torch.arange(len(wanted), device=wanted.device)
        self.cosine[at, wanted] = torch.inf

    @torch.no_grad()
    def of(self, some: slice) -> Tensor:
        """(R', M), the ranks for the queries `some` of the R."""
        sequence, query = (part[some] for part in self.row)
        token = self.token[sequence]
        cosine = self.cosine[self.target[some]].gather(-1, token)
        if self.visible is not None:
            cosine.masked_fill_(~self.visible[sequence, query], -torch.inf)
        order = cosine.argsort(dim=-1, descending=True, stable=True)
        places = torch.arange(token.shape[1], device=token.device).expand_as(order)
        return torch.empty_like(order).scatter_(-1, order, places)
