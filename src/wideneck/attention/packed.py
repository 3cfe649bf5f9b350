"""Documents packed into one row, whose borders come as flash attention takes them."""

from typing import Any

import torch
from torch import Tensor

from wideneck.errors import WideneckError


def documents(
    name: str,
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    *,
    causal: bool,
    cu_seq_lens_q: Tensor,
    cu_seq_lens_k: Tensor | None = None,
    **_others: Any,
) -> Tensor:
    """The mask under which every query sees the keys of its own document.

    Args:
        name: of the layer, for messages.
        query: (1, H, T, D).
        key: (1, G, T, D).
        mask: what else hides keys, (1, 1 or H, T, T), True where one is visible; None for nothing.
        causal: without a mask: a query sees no later key.
        cu_seq_lens_q: (N + 1,), where documents begin, and T.
        cu_seq_lens_k: the same of the keys; None for the same.

    Returns:
        Boolean (1, 1 or H, T, T).  Cost: that of forming it, without waiting for a device.

    Raises:
        WideneckError: several rows, or keys of a cache, to which the borders cannot belong.
    """
    if cu_seq_lens_k is None:
        cu_seq_lens_k = cu_seq_lens_q
    num_queries, num_keys = query.shape[2], key.shape[2]
    if len(query) != 1 or (num_queries != num_keys and cu_seq_lens_k is cu_seq_lens_q):
        raise WideneckError(
            f"{name} got packed documents as 'cu_seq_lens_q' with queries of shape "
            f"{tuple(query.shape)} and {num_keys} keys: pack them into one row and give "
            "use_cache=False."
        )
    of_query, of_key = (
        torch.searchsorted(
            borders.to(query.device, torch.long),
            torch.arange(size, device=query.device),
            right=True,
        )
        for borders, size in ((cu_seq_lens_q, num_queries), (cu_seq_lens_k, num_keys))
    )
    same = of_query[:, None] == of_key[None, :]
    if causal:
        same = same.tril()
    return same[None, None] if mask is None else mask & same
