"""One call of an attention layer: what transformers hands over, with its defaults filled in.

Masks are those of SDPA: boolean, or None where every key up to the query is visible (causal layers,
more than one query) or simply every key.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wideneck.attention.visits import arrive
from wideneck.errors import WideneckError
from wideneck.functional.autocast import autocasts

CHANGES_ATTENTION = (
    "alibi",
    "attention_bias",
    "block_indices",
    "cache",
    "head_mask",
    "indices",
    "position_bias",
    "sinks",
)
"""Arguments that some model's attention function honours and this one would drop."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of an attention layer: query (B, H, Q, D), key and value (B, G, K, D or Dv)."""

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    """Boolean (B or 1, H or 1, Q, K)."""
    causal: bool
    """Without a mask: query i sees the keys up to i.  Then Q = K."""
    scaling: float
    softcap: float | None
    dropout: float
    sink: Tensor | None = None
    """(H, 1, 1): a score of the model's own, one more in every row, whose weight is thrown away."""

    @property
    def groups(self) -> int:
        """Query heads that share a key."""
        return self.query.shape[1] // self.key.shape[1]


def as_call(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    is_causal: bool | None = None,
    s_aux: Tensor | None = None,
    **others: Any,
) -> Call:
    """What transformers hands to an attention function, with its defaults filled in.

    Args:
        s_aux: (H,), the sinks that gpt-oss and others have of their own; None for none.

    Raises:
        WideneckError: an argument or a mask that would be dropped, or numbers that are not real.
    """
    arrive(module)
    _refuse(module, attention_mask, others)
    if isinstance(scaling, complex) or query.is_complex():
        raise WideneckError(
            f"{type(module).__name__} attends by complex numbers (scale {scaling}), as a negative "
            "scale in a config makes them: expected real ones; correct the config."
        )
    kind = query.device.type
    if autocasts(kind) and query.dtype != torch.float64:
        lower = torch.get_autocast_dtype(kind)
        query, key, value = query.to(lower), key.to(lower), value.to(lower)
    if s_aux is not None and s_aux.numel() != query.shape[1]:
        raise WideneckError(
            f"{type(module).__name__} gives its attention 's_aux' of shape {tuple(s_aux.shape)}: "
            f"expected one number for each of {query.shape[1]} heads."
        )
    length = query.shape[2]
    if is_causal is None:
        is_causal = getattr(module, "is_causal", True)
    causal = length > 1 and attention_mask is None and bool(is_causal)
    if causal and key.shape[2] > length:  # an empty static cache: what follows is the future
        key, value = key[:, :, :length], value[:, :, :length]
    mask = None if attention_mask is None else attention_mask.expand(-1, -1, length, -1)
    if others.get("cu_seq_lens_q") is not None:
        mask = documents(type(module).__name__, query, key, mask, causal=causal, **others)
        causal = False
    return Call(
        query=query,
        key=key,
        value=value,
        mask=mask,
        causal=causal,
        scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
        softcap=softcap,
        dropout=dropout if module.training else 0.0,
        sink=None if s_aux is None else s_aux.reshape(-1, 1, 1),
    )


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


def _refuse(module: nn.Module, mask: Any, others: dict[str, Any]) -> None:
    name = type(module).__name__
    for argument in CHANGES_ATTENTION:
        if others.get(argument) is not None:
            raise WideneckError(
                f"{name} gives its attention {argument!r}, which a normalizer of wideneck would "
                "drop: this model keeps its own attention."
            )
    if mask is not None and (not isinstance(mask, Tensor) or mask.dtype != torch.bool):
        kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise WideneckError(
            f"{name} got an attention mask of {kind}: expected a boolean one, True where a key is "
            "visible."
        )
    if mask is not None and mask.ndim != 4:
        raise WideneckError(
            f"{name} got an attention mask of shape {tuple(mask.shape)}: expected (B, 1, Q, K)."
        )


def visible_keys(call: Call) -> Tensor | None:
    """The mask of a call, (B or 1, H or 1, Q, K) or (Q, K); None where every key is visible."""
    if not call.causal:
        return call.mask
    length = call.query.shape[2]
    return torch.ones(length, length, dtype=torch.bool, device=call.query.device).tril()


def num_visible(call: Call) -> Tensor:
    """How many, n (..., Q, 1) in at least float32, from the mask or what its absence means."""
    query = call.query
    wide = torch.promote_types(query.dtype, torch.float32)
    if call.mask is not None:
        return call.mask.sum(-1, keepdim=True, dtype=wide)
    if call.causal:
        return torch.arange(1, query.shape[2] + 1, dtype=wide, device=query.device)[:, None]
    return torch.full((1, 1), call.key.shape[2], dtype=wide, device=query.device)


def dense_scores(call: Call) -> Tensor:
    """Scores (B, H, Q, K) in at least float32, of hidden keys too."""
    wide = torch.promote_types(call.query.dtype, torch.float32)
    query = call.query.to(wide) * call.scaling
    scores = _by_group(query, call.groups) @ call.key.to(wide).mT
    scores = scores.view(*query.shape[:3], call.key.shape[2])
    if call.softcap is not None:
        scores = call.softcap * torch.tanh(scores / call.softcap)
    return scores


def mixed_values(weights: Tensor, call: Call) -> Tensor:
    """Weights (B, H, Q, K) times values: (B, H, Q, Dv)."""
    out = _by_group(weights.to(call.value.dtype), call.groups) @ call.value
    return out.view(*weights.shape[:3], call.value.shape[-1])


def _by_group(rows: Tensor, groups: int) -> Tensor:
    """(B, H, Q, *) as (B, G, H / G Q, *), for a product with what G heads share, uncopied."""
    if groups == 1:
        return rows
    batch, heads, length, width = rows.shape
    return rows.reshape(batch, heads // groups, groups * length, width)


def every_head(call: Call) -> tuple[Tensor, Tensor]:
    """Key and value of every query head, (B, H, K, D) and (B, H, K, Dv)."""
    if call.groups == 1:
        return call.key, call.value
    return call.key.repeat_interleave(call.groups, 1), call.value.repeat_interleave(call.groups, 1)
