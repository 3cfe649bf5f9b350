"""Attention whose weights are a function of each score by itself, in FlexAttention's kernel.

The kernel knows one normalizer, the softmax.  Given log f(s) for scores it returns
out = sum_j f(s_j) v_j / sum_j f(s_j) and L = log sum_j f(s_j), so out exp(L) is sum_j f(s_j) v_j
(the trick is that of attention-gym's mods/activation.py).  Where f is 0 its logarithm is -inf, as
of a hidden key.  Of a softmax with a sink b, out sigmoid(L - b) is the output.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, flex_attention

from wideneck.attention.by_key import ReLU, Sigmoid
from wideneck.attention.call import Call, dense_scores, num_visible, visible_keys
from wideneck.attention.normalizer import Normalizer
from wideneck.attention.sdpa import blocks_of_queries, sink_of
from wideneck.attention.softmaxes import SoftmaxLike

BLOCK = 128
"""Queries, and keys, of a block."""

VARIANTS = 128
"""Of `run`, by normalizer, mask, gradients, dtype and lengths.  By default a compiler gives up at 8
and forms the scores from there on, in memory of Q K.
"""

ScoreMod = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""(score, batch, head, query, key) -> the logarithm of what its key gets, before it is shared."""


def flex_attention_of(call: Call, config: Normalizer) -> Tensor:
    """(B, H, Q, Dv); queries that see nothing give zeros."""
    row = row_numbers(call, config)
    query, scaling = call.query, call.scaling
    factor = config.factor(num_visible(call)) if config.is_scaled else 1.0
    if isinstance(factor, Tensor):
        query = (query * factor).to(query.dtype)
    else:
        scaling = scaling * factor
    causal = None
    if call.causal:
        causal = _causal_blocks(query.shape[2], query.device)
    out, lse = _kernel(
        kind_of(config), query, call.key, call.value, call.mask, row, causal, scaling
    )
    return shared(out, lse, call, config, factor)


def kind_of(config: Normalizer) -> str:
    """Which of `score_mod`'s functions a normalizer wants."""
    if isinstance(config, Sigmoid | ReLU):
        return config.name
    assert isinstance(config, SoftmaxLike)
    return "plain" if config.most is None else "topk"


def row_numbers(call: Call, config: Normalizer) -> Tensor:
    """(B, H, Q): a sigmoid's bias, top-k's least score that is kept; zeros for the others."""
    shape = call.query.shape[:3]
    wide = torch.promote_types(call.query.dtype, torch.float32)
    if isinstance(config, Sigmoid):
        bias: Any = config.bias
        if bias is None:
            bias = -num_visible(call).clamp(min=1).log()
        bias = torch.as_tensor(bias, dtype=wide, device=call.query.device)
        return bias.expand(*shape, 1)[..., 0].contiguous()
    if isinstance(config, SoftmaxLike) and config.most is not None:
        return _least_kept(call, config.most)
    return torch.zeros(shape, dtype=wide, device=call.query.device)


def score_mod(kind: str, row: Tensor, mask: Tensor | None) -> ScoreMod:
    """The logarithm of what a key gets; indices may be numbers or tensors that broadcast.

    Args:
        kind: as `kind_of` gives it.
        row: (B, H, Q), as `row_numbers` gives it.
        mask: boolean (B or 1, H or 1, Q, K), True where a key is visible; None for all.
    """

    def changed(score: Tensor, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        if kind == "sigmoid":
            score = F.logsigmoid(score + row[b, h, q])
        elif kind == "relu":
            # The inner one keeps the derivative of the logarithm finite where f is 0.
            positive = score > 0
            score = torch.where(positive, torch.where(positive, score, 1.0).log(), -torch.inf)
        elif kind == "topk":
            score = torch.where(score >= row[b, h, q], score, -torch.inf)
        if mask is None:
            return score
        of_batch, of_head = b * (mask.shape[0] > 1), h * (mask.shape[1] > 1)
        return torch.where(mask[of_batch, of_head, q, k], score, -torch.inf)

    return changed


def shared(out: Tensor, lse: Tensor, call: Call, config: Normalizer, factor: Any) -> Tensor:
    """What the kernel gives, (B, H, Q, Dv) and L (B, H, Q), as the normalizer's output."""
    if isinstance(config, SoftmaxLike):
        sink = sink_of(call, config, factor)
        if sink is None:
            return out
        sink = torch.as_tensor(sink, dtype=lse.dtype, device=lse.device)
        shares = torch.sigmoid(lse[..., None] - sink)
    else:
        shares = lse.exp()[..., None]
        if isinstance(config, ReLU):
            shares = shares / num_visible(call).clamp(min=1)
    return (out * shares).to(out.dtype)


@torch.no_grad()
def _least_kept(call: Call, k: int) -> Tensor:
    """(B, H, Q): the k-th largest visible score, less what another order of sums may move it by."""
    visible, parts = visible_keys(call), []
    if k >= call.key.shape[2]:
        return torch.full(call.query.shape[:3], -torch.inf, device=call.query.device)
    for block in blocks_of_queries(call):
        scores = dense_scores(replace(call, query=call.query[:, :, block]))
        if visible is not None:
            scores = scores.masked_fill(~visible[..., block, :], -torch.inf)
        parts.append(scores.topk(k, dim=-1).values[..., -1])
    largest_key = call.key.norm(dim=-1).amax(-1).repeat_interleave(call.groups, 1)
    size = call.query.norm(dim=-1) * largest_key[..., None] * abs(call.scaling)
    return torch.cat(parts, -1) - 4 * torch.finfo(torch.float32).eps * size.float()


@functools.lru_cache(maxsize=16)
def _causal_blocks(length: int, device: torch.device) -> BlockMask:
    """Which blocks of keys a block of queries sees: its own in part, those before it whole.

    Made of block numbers, as `create_block_mask` would form a mask of every query and key.
    """

    def earlier(_b: Tensor, _h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return q >= k

    count = -(-length // BLOCK)
    with torch.inference_mode(False):  # the next call of this length may want gradients
        numbers = torch.arange(count, dtype=torch.int32, device=device)
        in_part, whole = torch.ones_like(numbers), numbers.clone()
        own = torch.zeros(count, count, dtype=torch.int32, device=device)
        own[:, 0] = numbers
        if length % BLOCK:  # of queries that are not there no key is seen whole
            in_part[-1], whole[-1], own[-1] = count, 0, numbers
        return BlockMask.from_kv_blocks(
            in_part[None, None],
            own[None, None],
            whole[None, None],
            numbers.expand(1, 1, count, count).contiguous(),
            BLOCK_SIZE=BLOCK,
            mask_mod=earlier,
            seq_lengths=(length, length),
        )


def run(
    kind: str,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    row: Tensor,
    blocks: Any,
    scaling: float,
) -> tuple[Tensor, Tensor]:
    """The kernel's out (B, H, Q, Dv) and L (B, H, Q), natural logarithms.

    Slow unless compiled.
    """
    # FlexAttention's own choice has once returned log-normalizers off by ln 2 (pytorch#181645).
    options: Any = {"BACKEND": "TRITON"} if query.device.type == "cuda" else None
    out, aux = flex_attention(
        query,
        key,
        value,
        score_mod=score_mod(kind, row, mask),
        block_mask=blocks,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
        kernel_options=options,
        return_aux=AuxRequest(lse=True),
    )
    assert aux.lse is not None
    return out, aux.lse


@functools.cache
def _compiled() -> Callable[..., tuple[Tensor, Tensor]]:
    return torch.compile(run)


def _kernel(*given: Any) -> tuple[Tensor, Tensor]:
    """`run`, compiled; in a graph under construction as a part of it."""
    if torch.compiler.is_compiling():
        return run(*given)
    with torch._dynamo.config.patch(recompile_limit=VARIANTS):
        return _compiled()(*given)
