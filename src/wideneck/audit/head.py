"""Section "head": what the output layer's weights alone say."""

from dataclasses import dataclass

import torch
from torch import Tensor

from wideneck.audit.argmaxable import Argmaxable, find_unargmaxable
from wideneck.audit.clock import Clock
from wideneck.audit.geometry import Cosines, Geometry, RowNorms, Spectra, measure_geometry
from wideneck.audit.measure import measure
from wideneck.audit.rows import SpecialRows, special_rows
from wideneck.audit.states import Progress
from wideneck.models import HeadWeights


@dataclass(frozen=True, kw_only=True)
class HeadAudit:
    """The output layer, from its weights."""

    vocab_size: int = measure("rows V of the output layer", unit="tokens")
    hidden_size: int = measure("columns d of the output layer")
    tied: bool = measure("input embedding and output layer hold the same numbers")
    tying: str = measure("how that was decided")
    has_bias: bool = measure("the output layer adds a bias to each score")
    tensor: str = measure("the tensor's name in the checkpoint")
    dtype: str = measure("storage type of the tensor")
    sha256: str = measure("hash of the tensor's stored bytes")
    spectrum: Spectra = measure("singular values of all rows, raw, centred and beside chance")
    mean_row_share: float = measure(
        "V ||mu||^2 / s_0^2, mu the mean row: the share of the largest squared singular value "
        "that the mean row alone explains; a softmax does not see the mean row"
    )
    row_norms: RowNorms = measure("lengths of the rows as stored")
    cosines: Cosines = measure(
        "angles of the rows as stored",
        caution="dominated by the mean row, which a softmax does not see",
    )
    cosines_centred: Cosines = measure("angles of the rows with the mean row taken off")
    rows: SpecialRows = measure("rows that no text trained")
    without_special: Geometry | None = measure(
        "the same measures without the rows listed as rows.excluded; none if there are none"
    )
    argmaxable: Argmaxable | None = measure(
        "tokens that no hidden state can make the most probable; none if not asked for"
    )


@torch.no_grad()
def audit_head(
    head: HeadWeights,
    clock: Clock,
    *,
    second_moment: Tensor | None = None,
    argmaxable: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> HeadAudit:
    """Measure one output layer.

    Args:
        second_moment: (D, D) E[x x^T] of hidden states on a text, for the data-weighted spectrum.
        argmaxable: look for tokens that can never win; the longest step, 2 V^2 D operations.
        seed: of the Gaussian null.
    """
    with clock("special rows"):
        rows = special_rows(head.weight, head.tokens)
    with clock("geometry"):
        everything = measure_geometry(
            head.weight, head.rounding, second_moment=second_moment, seed=seed
        )
        without = None
        if 0 < len(rows.excluded) < len(head.weight) - 1:
            kept = torch.ones(len(head.weight), dtype=torch.bool)
            kept[rows.excluded] = False
            without = measure_geometry(
                head.weight,
                head.rounding,
                rows=kept.nonzero().flatten(),
                second_moment=second_moment,
                seed=seed,
            )
    verdicts = None
    if argmaxable:
        with clock("unargmaxable tokens"):
            verdicts = find_unargmaxable(
                head.weight, head.bias, tokens=head.tokens, progress=progress
            )
    return HeadAudit(
        vocab_size=len(head.weight),
        hidden_size=head.weight.shape[1],
        tied=head.tied,
        tying=head.tying,
        has_bias=head.bias is not None,
        tensor=head.name,
        dtype=head.dtype,
        sha256=head.sha256,
        spectrum=everything.spectrum,
        mean_row_share=everything.mean_row_share,
        row_norms=everything.row_norms,
        cosines=everything.cosines,
        cosines_centred=everything.cosines_centred,
        rows=rows,
        without_special=without,
        argmaxable=verdicts,
    )
