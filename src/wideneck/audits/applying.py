"""Which measures of an output matrix are measures of the head that it belongs to.

The spectrum and the geometry of a matrix are its own, whatever is made of it.  Three things are of
a plain softmax only: that hidden states meet the matrix, that a constant in all scores is not seen,
and that a token with the largest score is the most probable one.

With one vector of scores z and an activation f that rises, the last holds as well.  In a mixture it
need not, but what cannot be first in a component cannot be first in their sum where exp f is
convex: a row that is sum_i a_i w_i of others, with weights a_i, has exp f(z) <= sum_i a_i exp
f(z_i) in every component (Jensen), so sum_i a_i p_i bounds its probability, and the largest p_i
bounds that.
"""

from wideneck.config import GSS, HeadConfig, Mixture, ReLU, ScaledSoftmax, Sigsoftmax, Softmax
from wideneck.models.head_weights import HeadForm

CONVEX = (Softmax, ScaledSoftmax, Sigsoftmax, GSS)
"""Activations with a convex exp f: (exp f)'' = exp f (f'^2 + f''), and f'^2 + f'' > 0 for a GSS of
any slope k > 0, of which the sigsoftmax is that with k = 2."""


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
