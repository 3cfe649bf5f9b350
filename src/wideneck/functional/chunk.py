"""A chunk of scores, before and after it becomes its own gradient."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from wideneck.functional.forms import Form
from wideneck.functional.passes import Mode, blocks, taken_out_, weigh_
from wideneck.functional.shard import Shard


@final
@dataclass
class Chunk:
    """Scores z (R, V), and what is known of each row."""

    z: Tensor
    form: Form
    top: Tensor
    total: Tensor
    here: Tensor
    target: Tensor
    target_logit: Tensor
    target_slope: Tensor
    nll: Tensor
    log_normalizer: Tensor
    weighted: Tensor
    mode: Mode

    @classmethod
    def of(cls, z: Tensor, t: Tensor, form: Form, shard: Shard, mode: Mode) -> "Chunk":
        """Finds the normalizer; unless z is kept, it already becomes G f' in the same pass."""
        here, target = shard.local(t)
        z_t = z.gather(1, target[:, None])
        # A few numbers of a row in float64 (which MPS lacks) keep roundings of f out of the loss.
        exact = z.dtype if z.device.type == "mps" else torch.float64
        f_t, slope_t = form.log_score(z_t.to(exact)).squeeze(1), form.slope(z_t).squeeze(1)
        sums = weigh_(z, form, shard, mode)
        top, f_top = sums.top, form.log_score(sums.top.to(exact)).squeeze(1)
        total, f_t = shard.sum(here, sums.total.to(exact), f_t)
        log_total = total.log()
        if sums.scaled is not None:
            scale = form.log_scale(top.to(exact)).squeeze(1)
            log_total = log_total - torch.where(sums.scaled, scale, 0.0)
        nll, log_normalizer = log_total - (f_t - f_top), log_total + f_top
        row = (top, total.to(z.dtype), here, target, z_t, slope_t, nll, log_normalizer)
        return cls(z, form, *row, sums.weighted, mode)

    def to_gradient(
        self, up: Tensor, ut: Tensor, parameters: list[Tensor], *, apart: bool
    ) -> tuple[Tensor, Tensor | None]:
        """The rows' scales a, of which a z is the gradient of the scores, and the target's own.

        `of` has made z G f' already, unless the mode is "keep"; then it becomes so here.  The
        target's own part is in z where `up` is `ut`, unless `apart`; None is then returned for it.

        Args:
            up: (R,), weight of the log-normalizer in the loss.
            ut: (R,), weight of the target's score.
            parameters: sums of their gradients, to which those of the chunk are added.
            apart: z is going to be rounded, and the target's part should not be.

        Returns:
            Two of (R,).
        """
        a = up / self.total
        if parameters:
            own = (-ut * self.here)[:, None]
            self.form.add_gradients_(parameters, self.target_logit, own)
        if self.mode == "in place, with sums":
            own = (a @ self.weighted).split([sum_.numel() for sum_ in parameters])
            for sum_, part in zip(parameters, own, strict=True):
                sum_ += part.view_as(sum_)
        elif self.mode == "keep":
            parts = blocks(self.z)
            rows = [len(block) for block in parts]
            top = self.form.log_score(self.top)
            for z, t, scale in zip(parts, top.split(rows), a.split(rows), strict=True):
                g = (self.form.log_score(z) - t).exp_()
                self.form.add_gradients_(parameters, z, g * scale[:, None])
                torch.mul(g, self.form.slope(z), out=z)
        slope = self.target_slope * self.here
        if apart:
            return a, a * taken_out_(self.z, self.target[:, None], self.here) - ut * slope
        if up is not ut:
            return a, -ut * slope
        # ut f' is a times total f', at no division.
        self.z.scatter_add_(1, self.target[:, None], -(self.total * slope)[:, None])
        return a, None
