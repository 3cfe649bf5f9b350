"""A chunk of scores whose targets stand apart, for products of bfloat16.

Letters as in `fused`.  G = exp(f(z) - f(z_t)) f'(z) goes into the products as bfloat16, and the
target's entry, which is as large as all others of its row together, would bring most of what
rounding adds.  So it is 0 in G and stands apart in float32: with s the sum of all other
exp(f(z) - f(z_t)), and weights u of a row's log-normalizer and u_t of its target's score,

    loss = log(1 + s),    a = u / (1 + s),
    dL/dz = a G but for the target, which has (a - u_t) f'.

Anchored at the target, a row needs no second look for its maximum: one pass of 6 bytes a score.
Rows of which s is above `LARGEST`, a loss of 44 nats, are left out and done again at their maximum.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from wideneck.functional.compiled import compiled
from wideneck.functional.forms import Form, Identity, exp_
from wideneck.functional.passes import blocks, exp_from_one_thread
from wideneck.functional.products import NARROW
from wideneck.functional.scores import Rest
from wideneck.functional.shard import Shard

LARGEST = 2.0**64
"""An s up to which a row may be anchored at its target."""
HIGHEST = 60.0
"""f(z) is taken to lie at most so far above the anchor: more is above `LARGEST` by itself, and G
stays finite in rows that are left out."""
LOWEST = -1e30
"""An anchor is at least this: exp(-inf - -inf) is NaN, which the weight 0 of a row that is left out
does not keep from the gradients of all others."""


@final
@dataclass
class ApartChunk:
    """What is known of each row of a chunk, whose scores have become G, the target's entry 0."""

    z: Tensor
    """(R, V), G: bfloat16 numbers."""
    form: Form
    total: Tensor
    """(R,), the sum of exp(f(z) - f(anchor)) over all processes, the target's included."""
    others: Tensor
    """(R,), the same without the target's."""
    here: Tensor
    target: Tensor
    target_logit: Tensor
    target_slope: Tensor
    nll: Tensor
    log_normalizer: Tensor
    weighted: Tensor
    """(R, P), sums of G df/dtheta here, or (R, 0)."""
    left_out: Tensor | None
    """(R,), rows to be done again; None where none can be."""

    @classmethod
    def of(
        cls,
        z: Tensor,
        t: Tensor,
        form: Form,
        shard: Shard,
        room: Tensor,
        *,
        at_top: bool,
        sums: bool,
        rest: Rest | None = None,
    ) -> "ApartChunk":
        """Finds normalizer and loss of each row, and forms G.

        Args:
            z: (R, V), scores, which are used up.
            t: (R,), targets, over the whole vocabulary.
            form: of the activation.
            shard: the part of the vocabulary that z is of.
            room: (R, V), where G goes: z itself, or bfloat16.
            at_top: anchor at each row's largest score, one look more, which every row may be.
            sums: whether to take those of the parameters' gradients.
            rest: what makes the scores of z, where the pass is to do it; never `at_top`.
        """
        here, target = shard.local(t)
        z_t = z.gather(1, target[:, None])
        z_t = z_t if rest is None else rest.of(z_t, target)
        exact = z.dtype if z.device.type == "mps" else torch.float64
        slope_t = form.slope(z_t).squeeze(1)
        score = z_t if shard.is_whole else shard.add_up(torch.where(here[:, None], z_t, 0))
        f_t = form.log_score(score.to(exact)).squeeze(1)
        anchor = shard.max(z.amax(-1, keepdim=True)) if at_top else score.clamp(min=LOWEST)
        f_anchor = form.log_score(anchor.to(exact)).squeeze(1)
        column = torch.where(here.bool(), target, -1)[:, None]
        others, weighted = _weigh(z, form, anchor, column, room, rest, sums=sums)
        others = shard.add_up(others).to(exact)
        total = others + (f_t - f_anchor).exp()
        log_total = total.log() if at_top else others.log1p()
        return cls(
            room,
            form,
            total.to(z.dtype),
            others.to(z.dtype),
            here,
            target,
            z_t,
            slope_t,
            log_total - (f_t - f_anchor),
            log_total + f_anchor,
            weighted,
            None if at_top else ~(others <= LARGEST),
        )

    def to_gradient(
        self, up: Tensor, ut: Tensor, parameters: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The rows' scales a, of which a G is the gradient of the scores, and the target's own.

        Args:
            up: (R,), weight of the log-normalizer in the loss; 0 in rows that are left out.
            ut: (R,), weight of the target's score, likewise.
            parameters: sums of their gradients, to which those of the chunk are added.
        """
        a, others = up / self.total, self.others / self.total
        # a e_t - ut with e_t = total - others: nothing cancels where the target has it all.
        own = -ut * others if up is ut else (up - ut) - up * others
        if self.left_out is not None:  # of infinite sums
            a, own = (torch.where(self.left_out, 0, x) for x in (a, own))
        own = own * self.here
        if parameters:
            self.form.add_gradients_(parameters, self.target_logit, own[:, None])
            sizes = [sum_.numel() for sum_ in parameters]
            for sum_, part in zip(parameters, (a @ self.weighted).split(sizes), strict=True):
                sum_ += part.view_as(sum_)
        return a, own * self.target_slope


def _weigh(
    z: Tensor,
    form: Form,
    anchor: Tensor,
    column: Tensor,
    room: Tensor,
    rest: Rest | None,
    *,
    sums: bool,
) -> tuple[Tensor, Tensor]:
    """Writes G to `room`; its row sums (R,) in front of f', and those for the parameters (R, P)."""
    if z.device.type != "cpu":
        scale, bias = (None, None) if rest is None else rest
        kind = (type(form.activation), sums, z.dtype, z.device.type, room.dtype)
        kind = (*kind, scale is None, bias is None)
        return compiled(weigh_apart, kind, (z, form, anchor, column, room, sums, scale, bias))
    assert rest is None, "products of a CPU do it"
    exp_from_one_thread()
    parts = blocks(z)
    rows = [len(part) for part in parts]
    spares = [torch.empty_like(parts[0]), torch.empty_like(parts[0], dtype=NARROW)]
    found = [
        _weigh_in_cache(part, form, a, at, out, [spare[: len(part)] for spare in spares], sums)
        for part, a, at, out in zip(
            parts, anchor.split(rows), column.split(rows), room.split(rows), strict=True
        )
    ]
    totals, weighted = zip(*found, strict=True)
    return torch.cat(totals), torch.cat(weighted)


def weigh_apart(
    z: Tensor,
    form: Form,
    anchor: Tensor,
    column: Tensor,
    room: Tensor,
    sums: bool,
    scale: Tensor | None,
    bias: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """`_weigh` by its formula, z as it is: what an accelerator makes one kernel of."""
    z = z if scale is None else z * scale
    z = z if bias is None else z + bias
    e = (form.log_score(z) - form.log_score(anchor)).clamp(max=HIGHEST).exp()
    places = torch.arange(z.shape[1], device=z.device)
    g = torch.where(places == column, 0, e)
    room.copy_((g * form.slope(z)).to(NARROW))
    # A slice of g, were it of no column, would keep all of g: 4 bytes a score.
    return g.sum(-1), form.row_sums(z, g) if sums else z.new_empty(len(z), 0)


def _weigh_in_cache(
    z: Tensor,
    form: Form,
    anchor: Tensor,
    column: Tensor,
    room: Tensor,
    spares: list[Tensor],
    sums: bool,
) -> tuple[Tensor, Tensor]:
    """The same in place of z, a block that stays in the cache."""
    spare, narrow = spares
    # The slope of the identity is 1: there its scores need not wait for it.
    is_identity = isinstance(form, Identity)
    into = z if is_identity else spare
    g = exp_(form.relative(z, anchor, out=into).clamp_(max=HIGHEST))
    here = column >= 0
    at = column.clamp(min=0)
    g.scatter_(1, at, torch.where(here, 0, g.gather(1, at)))
    total = g.sum(-1)
    weighted = form.row_sums(z, g) if sums else z.new_empty(len(z), 0)
    if not is_identity:
        form.times_slope(g, z)
    room.copy_(narrow.copy_(z))
    return total, weighted
