"""What the output matrix says, in float64, where it is whole or where processes share its rows."""

import math
from typing import Any, final

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard

from wideneck.audits.measured import UnmeasurableError
from wideneck.audits.spectrum import spectrum
from wideneck.functional.gram import row_chunks

BF16_LARGEST = torch.finfo(torch.bfloat16).max


@final
class Rows:
    """The rows of W (V, d) that this process holds, and sums over those who hold the others."""

    def __init__(self, weight: Tensor):
        self.shape = tuple(weight.shape)
        self.sharing: list[Any] = []
        self.placed: DTensor | None = None
        local: Tensor = weight.detach()
        if isinstance(local, DTensor):
            for dim, placement in enumerate(local.placements):
                if isinstance(placement, Shard) and placement.dim == 0:
                    self.sharing.append(local.device_mesh.get_group(dim))
                elif not placement.is_replicate():
                    raise UnmeasurableError(
                        f"the output matrix is placed as {placement}, and only rows can be shared"
                    )
            self.placed, local = local, local.to_local()
        self.local = local

    def total(self, ours: Tensor) -> Tensor:
        """The sum over processes."""
        for group in self.sharing:
            dist.all_reduce(ours, group=group)
        return ours

    def of_all(self, ours: Tensor) -> Tensor:
        """One number a row (rows held,) -> (V,)."""
        if self.placed is None:
            return ours
        from_local = DTensor.from_local(
            ours,
            self.placed.device_mesh,
            self.placed.placements,
            shape=torch.Size(self.shape[:1]),
            stride=(1,),
            run_check=False,
        )
        return from_local.full_tensor()


def weight_quantities(weight: Tensor) -> dict[str, float]:
    """The mean row, the lengths of the rows, and how far bfloat16 is from overflow.

    Cost: one read of W.
    """
    rows = Rows(weight)
    sums = torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.local.device)
    squares, largest = [], [sums.new_zeros(1)]
    for chunk in row_chunks(rows.local):
        sums += chunk.sum(0)
        squares.append(chunk.square().sum(1))
        largest.append(chunk.abs().amax().view(1) if len(chunk) else sums.new_zeros(1))
    mine = torch.cat(squares)
    mean = rows.total(sums) / rows.shape[0]
    norms = rows.of_all(mine.sqrt()).sort().values
    # Of the processes that share the rows the largest, by way of a number a row.
    top = torch.cat(largest).amax()
    for group in rows.sharing:
        dist.all_reduce(top, op=dist.ReduceOp.MAX, group=group)
    total = norms.square().sum()
    lengths = [norms[round(q * (len(norms) - 1))] for q in (0.05, 0.5, 0.95, 1)]
    share = rows.shape[0] * mean.square().sum() / total
    found = torch.stack([mean.square().sum().sqrt(), share, *lengths, top]).tolist()
    names = ("mean_row_norm", "mean_row_share", "row_norm_p05", "row_norm_median")
    names += ("row_norm_p95", "row_norm_maximum")
    told = dict(zip(names, found[:-1], strict=True))
    told["bf16_margin"] = math.log2(BF16_LARGEST / found[-1]) if found[-1] > 0 else math.nan
    return told


@final
class Spectrum:
    """What the Gram matrix says, and the projection on the columns of W.

    No power iteration: one Gram matrix gives the stable ranks exactly, and nothing has to be kept
    from one measurement to the next, so that a resumed run goes on to the same numbers.

    Cost: 2 V d^2 operations in float64, and the eigenvalues of two d x d matrices.
    """

    def __init__(self, weight: Tensor):
        rows = Rows(weight)
        vocab_size, width = rows.shape
        place = {"dtype": torch.float64, "device": rows.local.device}
        total = torch.zeros(width, **place)
        for chunk in row_chunks(rows.local):
            total += chunk.sum(0)
        mean = rows.total(total) / vocab_size
        centred = torch.zeros(width, width, **place)
        for chunk in row_chunks(rows.local):
            centred.addmm_((chunk - mean).T, chunk - mean)
        # Eigenvalues are a matter of milliseconds on a CPU, and of seconds on some accelerators.
        centred = rows.total(centred).cpu()
        mean = mean.cpu()
        raw = centred + vocab_size * torch.outer(mean, mean)
        if not bool(raw.isfinite().all()):
            raise UnmeasurableError("the output matrix is not finite")
        self.centred = spectrum(centred, vocab_size)
        self.values, self.vectors = torch.linalg.eigh(raw)

    def quantities(self) -> dict[str, float]:
        """Stable ranks and singular entropy."""
        values = self.values.clamp_min(0)
        return {
            "stable_rank": (values.sum() / values[-1]).item(),
            "stable_rank_centred": self.centred.stable_rank,
            "singular_entropy": self.centred.kl_sigma2,
        }

    def kept(self, reached: Tensor) -> float:
        """The sum over tokens of ||P g||^2, from each token's g W (N, d).

        P g = W G^+ W^T g with G = W^T W, so its square is (g W) G^+ (g W)^T.  Directions below the
        rounding of a float32 product are left out, as in the audit: divided by their singular
        value, that rounding would pass for signal.
        """
        floor = torch.finfo(torch.float32).eps * math.sqrt(len(self.values))
        found = self.values > self.values[-1] * (4 * floor) ** 2
        basis = self.vectors[:, found] / self.values[found].sqrt()
        return (reached.cpu() @ basis).square().sum().item()


def state_rank(sums: Tensor, gram: Tensor, count: float) -> float:
    """The effective rank, exp of the entropy, of the singular values of N states less their mean.

    Args:
        sums: (D,) their sum, float64.
        gram: (D, D) sum of h h^T, float64.
        count: N.
    """
    mean = sums / count
    centred = gram - count * torch.outer(mean, mean)
    return spectrum(centred.cpu(), int(count)).effective_rank
