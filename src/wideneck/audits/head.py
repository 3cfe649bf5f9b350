"""Section "head": what the output layer's weights alone say.

The spectrum and the geometry of a matrix are its own, whatever is made of it.  Three things are of
a plain softmax only: that hidden states meet the matrix, that a constant in all scores is not seen,
and that a token with the largest score is the most probable one.

With one vector of scores z and an activation f that rises, the last holds as well.  In a mixture it
need not, but what cannot be first in a component cannot be first in their sum where exp f is
convex: a row that is sum_i a_i w_i of others, with weights a_i, has exp f(z) <= sum_i a_i exp
f(z_i) in every component (Jensen), so sum_i a_i p_i bounds its probability, and the largest p_i
bounds that.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wideneck.audits.argmaxable import Argmaxable, find_unargmaxable
from wideneck.audits.clock import Clock
from wideneck.audits.geometry import Geometry, measure_geometry
from wideneck.audits.measure import measure
from wideneck.audits.measured import measured
from wideneck.audits.rows import SpecialRows, special_rows
from wideneck.audits.states import Progress
from wideneck.audits.subject import Subject
from wideneck.audits.tokens.health import TokenHealth, token_categories, token_health, unused
from wideneck.audits.tokens.of_subject import with_prompts
from wideneck.audits.tokens.verify import Verification
from wideneck.config import GSS, HeadConfig, Mixture, ReLU, ScaledSoftmax, Sigsoftmax, Softmax
from wideneck.models import HeadWeights
from wideneck.models.head_weights import HeadForm

CONVEX = (Softmax, ScaledSoftmax, Sigsoftmax, GSS)
"""Activations with a convex exp f: (exp f)'' = exp f (f'^2 + f''), and f'^2 + f'' > 0 for a GSS of
any slope k > 0, of which the sigsoftmax is that with k = 2."""


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
    tokens: TokenHealth | None = measure(
        "what each token is to its tokenizer, and which look untrained; none if not measurable",
        default=None,
    )
    without_special: Geometry | None = measure(
        "the same measures without the rows listed as rows.excluded; none if there are none"
    )
    argmaxable: Argmaxable | None = measure(
        "tokens that no hidden state can make the most probable; none if not asked for, not to "
        "be told, or not of this kind of head (see notes)"
    )
    verified: Verification | None = measure(
        "whether the model says its most suspicious tokens when it is asked to; none if not asked "
        "for (--verify-tokens), or not to be told (see the notes on the report)"
    )
    notes: list[str] = measure("what could not be measured of the head, and why")


@torch.no_grad()
def audit_head(
    head: HeadWeights,
    clock: Clock,
    *,
    second_moment: Tensor | None = None,
    argmaxable: bool = True,
    verified: Verification | None = None,
    seed: int = 0,
    tokenizer: Any = None,
    progress: Progress | None = None,
) -> HeadAudit:
    """Measure one output layer.

    Args:
        second_moment: (D, D) E[x x^T] of hidden states on a text, for the data-weighted spectrum
            of a head whose matrix they meet.
        argmaxable: look for tokens that can never win, where the head has one order of scores; the
            longest step, 2 V^2 D operations.
        verified: what the model said of its suspicious tokens, where it was asked.
        seed: of the Gaussian null.
        tokenizer: the one in memory, if there is one; None for the one that belongs to the head.
    """
    notes = what_does_not_apply(head.form)
    if head.form.has_contexts:
        second_moment = None
    with clock("special rows"):
        categories = token_categories(head, tokenizer, notes)
        rows = special_rows(head.weight, head.tokens, head.bias, unused(categories))
        rows = with_prompts(rows, verified)
    with clock("token health"):
        health = measured(
            "which tokens look untrained", lambda: token_health(head, categories, rows), None, notes
        )
    with clock("geometry"):
        everything = measure_geometry(
            head.weight, head.rounding, second_moment=second_moment, seed=seed, notes=notes
        )
        without = None
        if 0 < len(rows.excluded) < len(head.weight) - 1:
            kept = torch.ones(len(head.weight), dtype=torch.bool, device=head.weight.device)
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
        **vars(everything),
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
        tokens=health,
        without_special=without,
        argmaxable=verdicts,
        verified=verified,
        notes=notes,
    )


def section(subject: Subject) -> HeadAudit:
    """The head of a subject, weighted by the states of its text where there is one."""
    return audit_head(
        subject.head,
        subject.clock,
        second_moment=subject.second_moment(),
        argmaxable=subject.argmaxable,
        verified=subject.verified,
        seed=subject.seed,
        tokenizer=subject.tokenizer,
        progress=subject.progress,
    )


def not_one_order(form: HeadForm) -> str | None:
    """Why tokens that never have the largest score are not those that are never most probable.

    None where they are.
    """
    if form.has_memory:
        return "a memory can make any token of the context the most probable"
    activation = _of_scores(form)
    if isinstance(activation, ReLU):
        return "a relu makes all tokens with scores below 0 equally probable"
    if isinstance(form.config, Mixture) and not isinstance(activation, CONVEX):
        return (
            f"a {form.name} adds up distributions, and under this activation a token that is first "
            "in none of them can be first in their sum"
        )
    return None


def what_does_not_apply(form: HeadForm) -> list[str]:
    """Notes for the report; none for a plain layer."""
    notes = []
    if form.has_contexts:
        same = ", the same one in every component" if isinstance(form.config, Mixture) else ""
        notes.append(
            f"The measures are of the output matrix of a {form.name} head, which meets contexts "
            f"that the head makes of hidden states: any context counts here{same}, and there is no "
            "data-weighted spectrum."
        )
    if not _of_scores(form).linear:
        notes.append(
            f"A softmax does not see the mean row of its matrix, and this {form.name} does: for it "
            "the centred measures leave out something that counts."
        )
    reason = not_one_order(form)
    if reason is not None:
        notes.append(f"Not applicable: tokens that can never be the most probable ({reason}).")
    return notes


def _of_scores(form: HeadForm) -> HeadConfig:
    """What the scores of the matrix go through."""
    return form.config.activation if isinstance(form.config, Mixture) else form.config
