"""The attention function that transformers calls, under the name "wideneck".

Normalizers that are softmaxes of changed scores run in PyTorch's fused attention; the others, and
calls that want the weights, form the scores.  Masks are those of SDPA: boolean, or None where
every key up to the query is visible (causal layers, more than one query) or simply every key.
"""

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from wideneck.attention.learned import LearnedNormalizer, newcomer, take_hidden
from wideneck.attention.normalizer import Normalizer
from wideneck.attention.sink_attention import sink_attention
from wideneck.attention.softmaxes import SoftmaxLike, kept
from wideneck.attention.visits import arrive
from wideneck.errors import WideneckError

NAME = "wideneck"

CHANGES_ATTENTION = (
    "alibi",
    "attention_bias",
    "block_indices",
    "cache",
    "head_mask",
    "indices",
    "position_bias",
    "s_aux",
    "sinks",
)
"""Arguments that some model's attention function honours and this one would drop."""

BLOCK = 2**22
"""Scores that top-k forms at a time."""


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

    @property
    def groups(self) -> int:
        """Query heads that share a key."""
        return self.query.shape[1] // self.key.shape[1]


def attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    output_attentions: bool | None = None,
    **others: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention by `module.normalizer`; the interface of transformers.

    Returns:
        The output (B, Q, H, Dv), and weights (B, H, Q, K) where they were formed.

    Raises:
        WideneckError: a layer without a normalizer; what `as_call` refuses.
    """
    call = as_call(module, query, key, value, attention_mask, **others)
    normalizer: Any = getattr(module, "normalizer", None)
    if not isinstance(normalizer, LearnedNormalizer):
        normalizer = newcomer(module, query.shape[1])
    kind = query.device.type
    # `as_call` has done autocast's part.
    with torch.autocast(kind, enabled=False) if _autocasts(kind) else nullcontext():
        hidden = None if normalizer.hidden_size is None else take_hidden(module)
        config = normalizer(None, hidden=hidden)
        out, weights = _run(call, config, formed=bool(output_attentions))
    return out.transpose(1, 2).contiguous(), weights


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
    **others: Any,
) -> Call:
    """What transformers hands to an attention function, with its defaults filled in.

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
    if _autocasts(kind) and query.dtype != torch.float64:
        lower = torch.get_autocast_dtype(kind)
        query, key, value = query.to(lower), key.to(lower), value.to(lower)
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


def _autocasts(kind: str) -> bool:
    return kind != "meta" and torch.is_autocast_enabled(kind)


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


def _num_visible(call: Call) -> Tensor:
    """How many, n (..., Q, 1) in at least float32, from the mask or what its absence means."""
    query = call.query
    wide = torch.promote_types(query.dtype, torch.float32)
    if call.mask is not None:
        return call.mask.sum(-1, keepdim=True, dtype=wide)
    if call.causal:
        return torch.arange(1, query.shape[2] + 1, dtype=wide, device=query.device)[:, None]
    return torch.full((1, 1), call.key.shape[2], dtype=wide, device=query.device)


def attend(call: Call, config: Normalizer) -> Tensor:
    """Output (B, H, Q, Dv) of a call, by the route that the normalizer takes in a model."""
    return _run(call, config, formed=False)[0]


def _run(call: Call, config: Normalizer, *, formed: bool) -> tuple[Tensor, Tensor | None]:
    """Output, and the weights where they are formed: on demand, or as there is no other way."""
    if isinstance(config, SoftmaxLike) and call.softcap is None and not formed:
        return _fused(call, config), None
    return _dense(call, config)


def _fused(call: Call, config: SoftmaxLike) -> Tensor:
    """(B, H, Q, Dv) through PyTorch's attention, whose scores grow with the query."""
    if config.sink is not None:
        return sink_attention(
            call.query,
            call.key,
            call.value,
            config.sink,
            call.mask,
            is_causal=call.causal,
            scaling=call.scaling,
            dropout=call.dropout,
        )
    if config.most is not None and config.most < call.key.shape[2]:
        call = replace(call, mask=_kept_keys(call, config.most), causal=False)
    factor = config.factor(_num_visible(call))
    query, scaling = call.query, call.scaling
    if isinstance(factor, Tensor):
        query = (query * factor).to(query.dtype)
    else:
        scaling = scaling * factor
    grouped = call.groups > 1 and call.mask is None  # with a mask, kernels of a GPU want copies
    key, value = (call.key, call.value) if grouped else every_head(call)
    # A row without a visible key, such as one of padding, gets zeros from PyTorch.
    return F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=call.mask,
        dropout_p=call.dropout,
        is_causal=call.causal,
        scale=scaling,
        enable_gqa=grouped,
    )


def _dense(call: Call, config: Normalizer) -> tuple[Tensor, Tensor]:
    """(B, H, Q, Dv) and weights (B, H, Q, K)."""
    weights = config.weights(dense_scores(call), visible_keys(call))
    weights = F.dropout(weights.to(call.value.dtype), call.dropout)
    return weights @ every_head(call)[1], weights


@torch.no_grad()
def _kept_keys(call: Call, k: int) -> Tensor:
    """(B, H, Q, K), True for the visible keys of the k largest scores, a block of queries each."""
    key, value = every_head(call)
    call = replace(call, key=key, value=value)
    batch, heads, length, _ = call.query.shape
    rows = max(1, BLOCK // (batch * heads * key.shape[2]))
    visible = visible_keys(call)
    parts = []
    for start in range(0, length, rows):
        block = slice(start, start + rows)
        scores = dense_scores(replace(call, query=call.query[:, :, block]))
        parts.append(kept(scores, None if visible is None else visible[..., block, :], k))
    return torch.cat(parts, dim=2)


def dense_scores(call: Call) -> Tensor:
    """Scores (B, H, Q, K) in at least float32, of hidden keys too."""
    wide = torch.promote_types(call.query.dtype, torch.float32)
    key, _ = every_head(call)
    scores = (call.query.to(wide) @ key.to(wide).mT) * call.scaling
    if call.softcap is not None:
        scores = call.softcap * torch.tanh(scores / call.softcap)
    return scores


def every_head(call: Call) -> tuple[Tensor, Tensor]:
    """Key and value of every query head, (B, H, K, D) and (B, H, K, Dv)."""
    if call.groups == 1:
        return call.key, call.value
    return call.key.repeat_interleave(call.groups, 1), call.value.repeat_interleave(call.groups, 1)


# transformers builds a mask only for a name that has a mask function: without the second line every
# token would see its future.
AttentionInterface.register(NAME, attention_forward)
AttentionMaskInterface.register(NAME, sdpa_mask)
