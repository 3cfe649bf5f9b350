"""Token outputs as an operator: opaque to `torch.compile`, once differentiable.

What the values leave of every row (its largest score, its normalizer) is kept for the backward
pass, which computes the scores again and needs no second look at them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor

from wideneck.functional.affine import decode
from wideneck.functional.autocast import without_autocast
from wideneck.functional.check import check_temperature, look
from wideneck.functional.differentiable import finished
from wideneck.functional.distribution import widened
from wideneck.functional.kept import Kept
from wideneck.functional.op import ENCODED, LAYER, Asked, decoded, run
from wideneck.functional.options import ABOVE, NOTHING, Wanted
from wideneck.functional.scores import Gradients, Scores
from wideneck.functional.token_block import Block
from wideneck.functional.token_gradient import Incoming, to_gradient_
from wideneck.functional.token_pass import values
from wideneck.functional.transforms import refuse_batched, refuse_forward_mode, wanted_by

OUTPUTS = ("log_prob", "entropy", "log_sum_sq_prob", "mean_log_prob", "top1")
DIFFERENTIABLE = ("log_prob", "entropy")
FIXED = 7
"""Tensors in front of the activation's parameters: X (N, K, D), W (V, D), b (V,), log_prior (N, K),
the scale (), targets (N,) and temperatures (N,) or None."""
NUM_KEPT = 4


@final
@dataclass(frozen=True)
class AskedOutputs(Asked):
    """The same for token outputs, of whose options only `ignore_index` and `chunk_size` count."""

    number: float = 1.0
    """The temperature where there is no tensor of them."""
    outputs: tuple[str, ...] = ()

    def blocks(
        self, tensors: tuple, *, means: bool
    ) -> tuple[Scores, Iterator[tuple[Any, Tensor, Block]]]:
        """The scores, and of every chunk the index of its tokens, its rows of X, and its block.

        `means` says that the mean of log p is wanted, where the smallest probabilities count.
        """
        x, weight, bias, log_prior, scale, target, temperature = tensors[:FIXED]
        form, options = decode(*self.form, list(tensors[FIXED:])), self.options
        kept = Kept.of(target != options.ignore_index)
        asked = {"narrow": options.narrow, "scale": scale}
        scores = Scores(x, weight, bias, kept, self.shard, options.chunk_size, **asked)
        hot = self.number > 1 if temperature is None else bool((temperature > 1).any())
        small = means or hot

        def chunks() -> Iterator[tuple[Any, Tensor, Block]]:
            for n, rows, z in scores:
                T = self.number if temperature is None else temperature[n].to(z.dtype)[:, None]
                prior = None if log_prior is None else log_prior[n].to(z.dtype)
                yield n, rows, Block(z, target[n], T, prior, form, self.shard, small)

        return scores, chunks()


class TokenValues(torch.autograd.Function):
    """The outputs that are asked for, (N,) each, of (asked, *tensors)."""

    @staticmethod
    def forward(ctx: Any, asked: AskedOutputs, *tensors: Tensor | None) -> tuple[Tensor, ...]:  # pyrefly: ignore[bad-override]
        """The values."""
        outputs, ctx.count = asked.outputs, len(tensors)
        ctx.asked = replace(asked, wanted=wanted_by(ctx, FIXED) if asked.learning else NOTHING)
        if asked.runs_operators:
            given = (*tensors[:FIXED], list(tensors[FIXED:]), *asked.encode(), asked.number)
            found = token_values(*given, ",".join(outputs))
        else:
            found = _values(asked, tensors)
        told, kept = found[: len(outputs)], found[len(outputs) :]
        entropy = told[outputs.index("entropy")] if "entropy" in outputs else None
        ctx.save_for_backward(entropy, *kept, *tensors)
        without = [t for t, name in zip(told, outputs, strict=True) if name not in DIFFERENTIABLE]
        ctx.mark_non_differentiable(*without)
        ctx.set_materialize_grads(False)
        return tuple(told)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None):  # pyrefly: ignore[bad-override]
        """Those of the log-probabilities and the entropies."""
        asked: AskedOutputs = ctx.asked
        given = dict(zip(asked.outputs, gradients, strict=True))
        g, h = given.get("log_prob"), given.get("entropy")
        if g is None and h is None:
            return (None,) * (1 + ctx.count)
        refuse_batched(g, h)
        entropy, *others = ctx.saved_tensors
        kept, tensors = others[:NUM_KEPT], tuple(others[NUM_KEPT:])
        target, temperature, *parameters = tensors[ABOVE:]
        if h is None and temperature is None and asked.number == 1:
            assert g is not None  # the loss, which has faster ways
            _, _, *ready = run(
                asked, (*tensors[:ABOVE], target, None, None, *parameters), (-g, None)
            )
        elif asked.runs_operators:
            come = (asked.number, g, h, entropy, kept, list(asked.wanted))
            ready = token_gradients(*tensors[:FIXED], parameters, *asked.encode(), *come)
        else:
            ready = _gradients(asked, tensors, g, h, entropy, kept)
        sources = (*tensors, entropy, *kept, *gradients)
        return finished(ready, asked.wanted, tensors, FIXED, sources)


class EagerValues(TokenValues):
    """`TokenValues` where no graph is traced, as `EagerLoss`."""

    jvp = staticmethod(refuse_forward_mode)


@torch.no_grad()
def _values(asked: AskedOutputs, tensors: tuple) -> list[Tensor]:
    """[*outputs, top (N, K), log_total (N, K), normalizer (N,), share (N, K)]."""
    x, weight, _, _, _, target, temperature = tensors[:FIXED]
    vocab_size = weight.shape[0] if asked.shard.is_whole else asked.shard.vocab_size
    mask = target != asked.options.ignore_index
    look(x, target, mask, vocab_size, asked.options.ignore_index)
    check_temperature(temperature, mask)
    with without_autocast(x.device.type):
        scores, chunks = asked.blocks(tensors, means="mean_log_prob" in asked.outputs)
        found = _empty(x, scores.dtype, asked.outputs)
        names = [*asked.outputs, "top", "log_total", "normalizer", "share"]
        for n, _, chunk in chunks:
            told = values(chunk, asked.outputs)
            for name, all_ in zip(names, found, strict=True):
                all_[n] = getattr(told, name).to(all_.dtype)
    return found


def _empty(x: Tensor, dtype: torch.dtype, outputs: Sequence[str]) -> list[Tensor]:
    """What `_values` gives where every target is ignored."""
    N, K, _ = x.shape
    told = [x.new_zeros(N, dtype=torch.bool if name == "top1" else dtype) for name in outputs]
    top, log_total, share = (x.new_zeros(N, K, dtype=dtype) for _ in range(3))
    return [*told, top, log_total, x.new_zeros(N, dtype=dtype), share]


@torch.no_grad()
def _gradients(
    asked: AskedOutputs,
    tensors: tuple,
    g: Tensor | None,
    h: Tensor | None,
    entropy: Tensor | None,
    kept: list[Tensor],
) -> list[Tensor]:
    """The wanted gradients of sum_n (g_n log-probability_n + h_n entropy_n)."""
    x, target = tensors[0], tensors[ABOVE]
    with without_autocast(x.device.type):
        scores, chunks = asked.blocks(tensors, means=False)
        dtype = scores.dtype
        sums = Gradients(scores, asked.wanted, tensors[FIXED:])
        zero = x.new_zeros(len(target), dtype=dtype)
        g = zero if g is None else g.to(dtype)
        H = zero if entropy is None else entropy
        given = Incoming(g, None if h is None else h.to(dtype), H, *kept)
        for n, x_n, chunk in chunks:
            apart = scores.products.narrow
            a, own, by_prior = to_gradient_(chunk, given.at(n), sums.parameters, apart=apart)
            sums.add(n, x_n, scores.as_factor(chunk.z), a)
            if own is not None:
                sums.add_own(n, x_n, chunk.local()[1].squeeze(1), own)
            if sums.log_prior is not None and by_prior is not None:
                sums.log_prior[n] = by_prior
    return asked.shard.whole_gradients(sums.finish())


TENSORS = f"{LAYER}, Tensor target, Tensor? temperature, {ENCODED}, float number"


@torch.library.custom_op(
    "wideneck::token_values", mutates_args=(), schema=f"({TENSORS}, str outputs) -> Tensor[]"
)
def token_values(*given: Any) -> list[Tensor]:
    """`_values` of one process, which a compiled graph calls and does not look into.

    The outputs are named with commas between them: an operator takes no list of names.
    """
    tensors, form, options, (number, outputs) = decoded(given, FIXED)
    names = tuple(outputs.split(","))
    return _values(AskedOutputs(form, options, number=number, outputs=names), tensors)


@token_values.register_fake
def _(x, weight, *rest):
    return _empty(x, widened(x, weight), rest[-1].split(","))


@torch.library.custom_op(
    "wideneck::token_gradients",
    mutates_args=(),
    schema=f"({TENSORS}, Tensor? g, Tensor? h, Tensor? entropy, Tensor[] kept, bool[] wanted) "
    "-> Tensor[]",
)
def token_gradients(*given: Any) -> list[Tensor]:
    """`_gradients` of one process, likewise."""
    tensors, form, options, (number, *come, wanted) = decoded(given, FIXED)
    asked = AskedOutputs(form, options, wanted=Wanted(*wanted), number=number)
    return _gradients(asked, tensors, *come)


@token_gradients.register_fake
def _(x, weight, bias, log_prior, scale, target, temperature, parameters, *rest):
    given = Wanted(*rest[-1]).of((x, weight, bias, log_prior, scale, *parameters), ABOVE)
    dtype = widened(x, weight)
    return [tensor.new_empty(tensor.shape, dtype=dtype) for tensor in given]
