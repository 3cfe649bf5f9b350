"""Finds every token that no hidden state can make the strict argmax, with a proof for each token.

Token i is argmaxable if some x has (w_i - w_j).x + b_i - b_j > 0 for every other row j
(Demeter, Kimmel & Downey 2020; Grivas, Bogoychev & Lopez 2022, who decide it with a commercial
solver). V rows w_i in R^D, M of them distinct. Stages, each for what the one before left:

    rows that tie -> whitened self-test -> plain self-test -> clusters (no bias) -> reflections
    -> nearest point of the hull -> linear program

Cost: M^2 D flops for the first test (2 M^2 D with a bias), little for the rest, unless the head
is so narrow that most rows lie inside; then O(D^3) for each of those (0.01 s at D = 16, seconds at
1024). The exact stages start no new round for a row after two minutes, nor for any after ten: what
is left is undecided. Memory beyond the weight: 2 M D numbers in float32, and about 1 GB.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from wideneck.audits.argmaxable.distinct import group_equal_rows, join_near_rows
from wideneck.audits.argmaxable.head import Distinct, Progress, make_head
from wideneck.audits.argmaxable.report import certificate_of, of_token, report, witness_of
from wideneck.audits.argmaxable.result import Argmaxable, Certificate, Witness
from wideneck.audits.argmaxable.search import TRANSFORMS, Search
from wideneck.audits.argmaxable.self_tests import make_cloud, states, whitening
from wideneck.audits.argmaxable.verdict import Found
from wideneck.audits.measured import UnmeasurableError
from wideneck.audits.scale import REACH, power_of
from wideneck.errors import WideneckError

DEFAULT_BOX = 100.0
"""As Grivas et al. 2022."""


@torch.no_grad()
def find_unargmaxable(
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    tokens: Sequence[str | None] | None = None,
    progress: Progress | None = None,
    box: float | None = None,
) -> Argmaxable:
    """Decides for every token whether some hidden state makes it the strict argmax.

    Args:
        weight: (V, D) rows of the head, any float dtype, on the CPU.
        bias: (V,), or None.
        tokens: strings by id; may be shorter than V.
        progress: called with (stage, done, total) after every chunk, step or token.
        box: with a bias, hidden states are sought with |x_k| <= box (100 if None). Without one,
            scaling x changes no verdict and the box is not used.

    Raises:
        WideneckError: there is nothing to judge in these arguments.
        UnmeasurableError: float64 cannot compare the scores of numbers so unlike in size.
    """
    head, groups = _distinct(weight, bias, box)
    search = Search(head=head, progress=progress)
    if head.num_rows > 1:
        search.run()
    assert not search.barred.all(), "some token can be the most probable, whatever the head"
    return report(head, groups, list(tokens or []), search)


@torch.no_grad()
def self_test_witness(
    weight: Tensor,
    indices: Sequence[int],
    method: str,
    bias: Tensor | None = None,
    *,
    box: float | None = None,
) -> Tensor:
    """The hidden states (N, D), in float64, at which a self-test found tokens to win.

    Anyone can check them: (w_i - w_j).x + b_i - b_j > 0 for every row j that differs from i.

    Args:
        weight: (V, D), as given to `find_unargmaxable`.
        indices: N token ids.
        method: "plain" for `Argmaxable.plain`, "whitened" for the others without a `Witness`.
        bias: (V,), or None.
        box: as given to `find_unargmaxable`.
    """
    _check(weight, bias, box)
    if method not in TRANSFORMS:
        raise WideneckError(f"method must be one of {', '.join(TRANSFORMS)}, got {method!r}.")
    every_V = torch.arange(len(weight), device=weight.device)
    head = make_head(*_within_reach(weight, bias), every_V, box or DEFAULT_BOX)
    return states(head, TRANSFORMS[method](head), torch.tensor(list(indices), dtype=torch.long))


@torch.no_grad()
def find_proof(
    weight: Tensor, token: int, bias: Tensor | None = None, *, box: float | None = None
) -> Certificate | Witness | None:
    """The proof of one token's verdict, where a report leaves it out for its length.

    Cost: that of the exact stages for one row. None where they find none.

    Args:
        weight: (V, D), as given to `find_unargmaxable`.
        token: the one that is asked for.
        bias: (V,), or None.
        box: as given to `find_unargmaxable`.
    """
    head, groups = _distinct(weight, bias, box)
    if not 0 <= token < len(weight):
        raise WideneckError(f"token must be one of the {len(weight)} rows, got {token}.")
    i = next(k for k, group in enumerate(groups) if token in group)
    search = Search(head=head, progress=None)
    stage, proof = search.exactly(make_cloud(head, whitening(head)), i)
    if isinstance(proof, Found):
        return witness_of(proof, token, None, stage)
    proof = None if proof is None else of_token(head, proof, i, token)
    return None if proof is None else certificate_of(head, proof)


def _distinct(
    weight: Tensor, bias: Tensor | None, box: float | None
) -> tuple[Distinct, list[list[int]]]:
    """The rows to be told apart, and the tokens of each."""
    _check(weight, bias, box)
    groups = group_equal_rows(weight, bias)
    tokens_M = torch.tensor([group[0] for group in groups]).to(weight.device)
    head = make_head(*_within_reach(weight, bias), tokens_M, box or DEFAULT_BOX)
    return join_near_rows(head, groups)


def _within_reach(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Both times one power of two, which changes no verdict, where float64 cannot square them.

    Raises:
        UnmeasurableError: some row would be lost beside the largest number.
    """
    if weight.dtype != torch.float64:
        return weight, bias
    both = weight if bias is None else torch.cat([weight, bias.double()[:, None]], dim=1)
    power = power_of(both)
    if power == 1:
        return weight, bias
    both = both * power
    # A row of zeros is none that scaling loses; equal rows are grouped already.
    shortest = torch.cat([chunk.abs().amax(1) for chunk in both.split(8192)])
    if bool((shortest[both.ne(0).any(1)] < 2.0**-REACH).any()) or bool(
        (both.eq(0).all(1) & weight.ne(0).any(1)).any()
    ):
        raise UnmeasurableError(
            "its largest number is so much larger than some rows that float64 cannot compare "
            "their scores"
        )
    return (both, None) if bias is None else (both[:, :-1], both[:, -1])


def _check(weight: Tensor, bias: Tensor | None, box: float | None) -> None:
    if weight.ndim != 2 or 0 in weight.shape or not weight.is_floating_point():
        raise WideneckError(
            "find_unargmaxable needs a (V, D) weight of floats, "
            f"got {weight.dtype} of shape {tuple(weight.shape)}."
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise WideneckError(
            f"A weight of {len(weight)} rows needs a bias of shape ({len(weight)},), "
            f"got {tuple(bias.shape)}."
        )
    for what, values in (("weight", weight), ("bias", bias)):
        if values is not None and not all(bool(c.isfinite().all()) for c in values.split(8192)):
            raise WideneckError(
                f"The {what} has values that are not finite; leave such rows out, "
                "no score can be compared with theirs."
            )
    if box is not None and not 0 < box < float("inf"):
        raise WideneckError(f"The box must be a positive number, got {box}.")
