"""Section "head": what the output layer's weights alone say."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from wideneck.audits.applying import not_one_order, what_does_not_apply
from wideneck.audits.argmaxable import Argmaxable, find_unargmaxable
from wideneck.audits.clock import Clock
from wideneck.audits.geometry import Geometry, measure_geometry
from wideneck.audits.measure import measure
from wideneck.audits.measured import measured
from wideneck.audits.rows import SpecialRows, special_rows
from wideneck.audits.states import Progress
from wideneck.audits.subject import Subject
from wideneck.models import HeadWeights


@dataclass(frozen=True, kw_only=True)
class HeadAudit(Geometry):
    """The output layer, from its weights: the geometry of all its rows, and more."""

    vocab_size: int = measure("rows V of the output layer", unit="tokens")
    hidden_size: int = measure("columns d of the output layer")
    tied: bool = measure("input embedding and output layer hold the same numbers")
    tying: str = measure("how that was decided")
    has_bias: bool = measure("the output layer adds a bias to each score")
    kind: str = measure(
        "softmax for a plain layer, or the head of wideneck that it is, by its name in `wideneck "
        "heads`",
        caution="the measures are those of the output matrix alone; the notes say what does not "
        "apply to it",
    )
    has_memory: bool = measure("the model predicts from a cache memory besides")
    tensor: str = measure("the tensor's name in the checkpoint")
    dtype: str = measure("storage type of the tensor")
    sha256: str = measure("hash of the tensor's stored bytes")
    rows: SpecialRows = measure("rows that no text trained")
    without_special: Geometry | None = measure(
        "the same measures without the rows listed as rows.excluded; none if there are none"
    )
    argmaxable: Argmaxable | None = measure(
        "tokens that no hidden state can make the most probable; none if not asked for, not to "
        "be told, or not of this kind of head (see notes)"
    )
    notes: list[str] = measure("what could not be measured of the head, and why")


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
        second_moment: (D, D) E[x x^T] of hidden states on a text, for the data-weighted spectrum
            of a head whose matrix they meet.
        argmaxable: look for tokens that can never win, where the head has one order of scores; the
            longest step, 2 V^2 D operations.
        seed: of the Gaussian null.
    """
    notes = what_does_not_apply(head.form)
    if head.form.has_contexts:
        second_moment = None
    with clock("special rows"):
        rows = special_rows(head.weight, head.tokens, head.bias)
    with clock("geometry"):
        everything = measure_geometry(
            head.weight, head.rounding, second_moment=second_moment, seed=seed, notes=notes
        )
        without = None
        if 0 < len(rows.excluded) < len(head.weight) - 1:
            kept = torch.ones(len(head.weight), dtype=torch.bool)
            kept[rows.excluded] = False
            rest: list[str] = []
            without = measure_geometry(
                head.weight,
                head.rounding,
                rows=kept.nonzero().flatten(),
                second_moment=second_moment,
                seed=seed,
                notes=rest,
            )
            notes += [f"Without special rows: {note[0].lower()}{note[1:]}" for note in rest]
    verdicts = None
    if argmaxable and not_one_order(head.form) is None:
        with clock("unargmaxable tokens"):
            verdicts = measured(
                "which tokens can be the most probable",
                lambda: find_unargmaxable(
                    head.weight, head.bias, tokens=head.tokens, progress=progress
                ),
                None,
                notes,
            )
    return HeadAudit(
        **{field.name: getattr(everything, field.name) for field in fields(everything)},
        vocab_size=len(head.weight),
        hidden_size=head.weight.shape[1],
        tied=head.tied,
        tying=head.tying,
        has_bias=head.bias is not None,
        kind=head.form.name,
        has_memory=head.form.has_memory,
        tensor=head.name,
        dtype=head.dtype,
        sha256=head.sha256,
        rows=rows,
        without_special=without,
        argmaxable=verdicts,
        notes=notes,
    )


def section(subject: Subject) -> HeadAudit:
    """The head of a subject, weighted by the states of its text where there is one."""
    return audit_head(
        subject.head,
        subject.clock,
        second_moment=subject.second_moment(),
        argmaxable=subject.argmaxable,
        seed=subject.seed,
        progress=subject.progress,
    )
