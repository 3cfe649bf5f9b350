"""Softmaxes of changed scores in PyTorch's own attention, whose scores grow with the query."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from wideneck.attention.call import Call, dense_scores, every_head, num_visible, visible_keys
from wideneck.attention.sink_attention import sink_attention
from wideneck.attention.sink_kernels import kernel_of
from wideneck.attention.softmaxes import SoftmaxLike, kept

BLOCK = 2**22
"""Scores that top-k forms at a time."""
FASTEST_FIRST = {
    SDPBackend.CUDNN_ATTENTION: torch.backends.cuda.cudnn_sdp_enabled,
    SDPBackend.FLASH_ATTENTION: torch.backends.cuda.flash_sdp_enabled,
    SDPBackend.EFFICIENT_ATTENTION: torch.backends.cuda.mem_efficient_sdp_enabled,
    SDPBackend.MATH: torch.backends.cuda.math_sdp_enabled,
}
"""On GPUs of compute capability 9, with whether the user lets them run."""


def sdpa_attention(call: Call, config: SoftmaxLike) -> Tensor:
    """(B, H, Q, Dv).  A query without a visible key, such as one of padding, gets zeros."""
    if config.most is not None and config.most < call.key.shape[2]:
        call = replace(call, mask=_kept_keys(call, config.most), causal=False)
    factor = config.factor(num_visible(call)) if config.is_scaled else 1.0
    query, scaling = call.query, call.scaling
    if isinstance(factor, Tensor):
        query = (query * factor).to(query.dtype)
    else:
        scaling = scaling * factor
    sink = sink_of(call, config, factor)
    if sink is not None:
        return sink_attention(
            query,
            call.key,
            call.value,
            sink,
            call.mask,
            is_causal=call.causal,
            scaling=scaling,
            dropout=call.dropout,
        )
    grouped = call.groups > 1 and takes_groups(query, call.key, call.value, call.mask)
    key, value = (call.key, call.value) if grouped else every_head(call)
    with _best_kernel(query):
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


def takes_groups(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> bool:
    """Whether heads may share keys without making PyTorch form the scores: else it wants copies."""
    if mask is not None:
        return False
    kernel = kernel_of(query, key, value, mask)
    return kernel is not None and kernel.takes_groups


def sink_of(call: Call, config: SoftmaxLike, factor: Any) -> Any:
    """The score whose weight is thrown away: the normalizer's, the model's own, both, or None.

    The model's own is one of the scores, and scaled as they are.
    """
    if call.sink is None:
        return config.sink
    own = call.sink.to(torch.promote_types(call.sink.dtype, torch.float32)) * factor
    if config.sink is None:
        return own
    return torch.logaddexp(own, torch.as_tensor(config.sink, dtype=own.dtype, device=own.device))


def _best_kernel(query: Tensor) -> AbstractContextManager[Any]:
    if query.device.type != "cuda" or torch.compiler.is_compiling():
        return nullcontext()
    if torch.cuda.get_device_capability(query.device)[0] != 9:
        return nullcontext()
    allowed = [backend for backend, is_on in FASTEST_FIRST.items() if is_on()]
    return sdpa_kernel(allowed, set_priority=True) if allowed else nullcontext()


@torch.no_grad()
def _kept_keys(call: Call, k: int) -> Tensor:
    """(B, H, Q, K), True for the visible keys of the k largest scores, a block of queries each."""
    visible, length = visible_keys(call), call.query.shape[2]
    parts = []
    for block in blocks_of_queries(call):
        scores = dense_scores(replace(call, query=call.query[:, :, block]))
        parts.append(kept(scores, None if visible is None else visible[..., block, :], k))
    return torch.cat(parts, dim=2) if length else torch.ones(0, dtype=torch.bool)


def blocks_of_queries(call: Call) -> list[slice]:
    """Queries whose scores of all heads are no more than `BLOCK`, or one query."""
    batch, heads, length, _ = call.query.shape
    rows = max(1, BLOCK // max(1, batch * heads * call.key.shape[2]))
    return [slice(start, start + rows) for start in range(0, length, rows)]
