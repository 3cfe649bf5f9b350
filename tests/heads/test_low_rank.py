"""The head of low rank: its formula, and the cut of a trained matrix."""

import re

import pytest
import torch
import torch.nn.functional as F

from wideneck import heads
from wideneck.audits.output.layer import OutputLayer
from wideneck.audits.output.rank_cost import rank_cost
from wideneck.audits.states import HiddenStates
from wideneck.errors import WideneckError
from wideneck.heads import low_rank_from
from wideneck.models import LogitMap

V, D = 40, 8


def softmax_head(dtype=torch.float64):
    """W (V, D) with a mean row, a bias, and hidden states (12, 20, D) that are not round."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weight = normal(V, D) @ normal(D, D) / 4 + normal(D)
    hidden = normal(12, 20, D) @ normal(D, D) / 2 + normal(D)
    return weight.to(dtype), normal(V).to(dtype), hidden.to(dtype)


def second_moment_of(hidden):
    rows = hidden.reshape(-1, hidden.shape[-1]).double()
    return rows.T @ rows / len(rows)


@torch.no_grad()
def test_a_low_rank_head_is_the_softmax_of_a_product():
    torch.manual_seed(0)
    head = heads.build("low_rank", hidden_size=D, vocab_size=V, rank=3, bias=True)
    assert head.weight.shape == (V, 3)
    assert head.down.weight.shape == (3, D)
    head.bias.normal_()
    hidden = torch.randn(5, D)
    matrix = head.weight @ head.down.weight
    torch.testing.assert_close(head(hidden), F.linear(hidden, matrix, head.bias).log_softmax(-1))


def test_a_fresh_head_has_entries_of_one_over_the_root_of_its_columns():
    torch.manual_seed(0)
    head = heads.build("low_rank", hidden_size=400, vocab_size=500, rank=16)
    for matrix, columns in ((head.weight, 16), (head.down.weight, 400)):
        assert 0.99 * columns**-0.5 < matrix.abs().max() <= columns**-0.5


@pytest.mark.parametrize("whitened", [False, True])
@torch.no_grad()
def test_at_full_rank_it_predicts_what_the_softmax_does(whitened):
    weight, bias, hidden = softmax_head()
    second_moment = second_moment_of(hidden) if whitened else None
    head = low_rank_from(weight, D, second_moment=second_moment, bias=bias, logit_scale=0.7)
    want = (0.7 * (hidden @ weight.T + bias)).log_softmax(-1)
    torch.testing.assert_close(head(hidden), want, atol=1e-12, rtol=1e-12)


def left_out(head, weight, second_moment):
    """E ||(W - 1 mu^T - A B) h||^2."""
    difference = weight - weight.mean(0) - head.weight @ head.down.weight
    return (difference @ second_moment @ difference.T).trace()


@torch.no_grad()
def test_no_matrix_of_the_rank_is_nearer_in_its_own_metric():
    """The squared singular values beyond r are what any matrix of rank r must leave out."""
    weight, _, hidden = softmax_head()
    moment, identity = second_moment_of(hidden), torch.eye(D).double()
    centred = weight - weight.mean(0)
    tails = {
        "whitened": torch.linalg.svdvals(centred @ torch.linalg.cholesky(moment)).square(),
        "centred": torch.linalg.svdvals(centred).square(),
    }
    for rank in range(1, D):
        plain = low_rank_from(weight, rank)
        whitened = low_rank_from(weight, rank, second_moment=moment)
        for head, name, metric in (
            (whitened, "whitened", moment),
            (plain, "centred", identity),
        ):
            torch.testing.assert_close(left_out(head, weight, metric), tails[name][rank:].sum())
        assert left_out(whitened, weight, moment) < left_out(plain, weight, moment)
        assert left_out(plain, weight, identity) < left_out(whitened, weight, identity)


@torch.no_grad()
def test_the_mean_row_takes_none_of_the_ranks():
    weight, bias, hidden = softmax_head()
    first = weight[:, :3] - weight[:, :3].mean(0)
    weight = 5 + first @ torch.randn(3, D, generator=torch.Generator().manual_seed(1)).double()
    for moment in (None, second_moment_of(hidden)):
        head = low_rank_from(weight, 3, second_moment=moment, bias=bias)
        torch.testing.assert_close(head(hidden), (hidden @ weight.T + bias).log_softmax(-1))


@pytest.mark.parametrize("whitened", [False, True])
def test_both_factors_start_with_entries_of_one_size(whitened):
    weight, _, hidden = softmax_head()
    head = low_rank_from(weight, 5, second_moment=second_moment_of(hidden) if whitened else None)
    sizes = head.weight.square().mean(0), head.down.weight.square().mean(1)
    torch.testing.assert_close(*sizes)


def test_a_direction_that_the_matrix_lacks_can_still_be_learned():
    weight, _, hidden = softmax_head()
    weight[:, 2:] = 0
    head = low_rank_from(weight, 4)
    torch.testing.assert_close(head(hidden), (hidden @ weight.T).log_softmax(-1))
    head.nll(hidden, torch.zeros(hidden.shape[:-1]).long(), reduction="mean").backward()
    assert (head.weight.grad.abs().sum(0) > 1e-3).all()


@pytest.mark.parametrize("method", ["centred", "whitened"])
@torch.no_grad()
def test_it_loses_what_the_audit_measures_at_its_rank(method):
    weight, bias, hidden = softmax_head(torch.float32)
    states = HiddenStates(
        hidden=hidden,
        targets=torch.randint(V, hidden.shape[:2], generator=torch.Generator().manual_seed(1)),
        document=torch.arange(12),
        num_bytes=torch.ones(12),
        anisotropy=[],
        last_logits=torch.zeros(1, V),
    )
    fit = torch.arange(12) % 2 == 0
    layer = OutputLayer(weight, bias, LogitMap("identity"))
    cost = rank_cost(layer, states, fit, torch.full((V,), 1 / V))
    hidden, targets = hidden[~fit], states.targets[~fit]
    whole = F.cross_entropy((hidden @ weight.T + bias).flatten(0, 1), targets.flatten())
    moment = second_moment_of(states.hidden[fit]) if method == "whitened" else None
    points = [point for point in cost.points if point.method == method]
    assert len(points) > 3
    for point in points:
        head = low_rank_from(weight, point.rank, second_moment=moment, bias=bias)
        gap = head.nll(hidden, targets, reduction="mean") - whole
        assert gap.item() == pytest.approx(point.measured.value, abs=2e-6, rel=1e-5)


def test_the_head_has_the_dtype_of_the_matrix_and_shares_nothing_with_it():
    weight, bias, _ = softmax_head()
    head = low_rank_from(weight.bfloat16(), D, bias=bias.bfloat16())
    assert {p.dtype for p in head.parameters()} == {torch.bfloat16}
    before = weight.clone(), bias.clone()
    head = low_rank_from(weight, D, bias=bias)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
    assert torch.equal(weight, before[0])
    assert torch.equal(bias, before[1])


BAD = {
    "a rank above d": (lambda w: low_rank_from(w, D + 1), "got rank 9 for hidden_size 8"),
    "a rank of 0": (lambda w: low_rank_from(w, 0), "low_rank needs a whole number >= 1 for rank"),
    "building above d": (
        lambda w: heads.build("low_rank", hidden_size=D, vocab_size=V),
        "low_rank needs rank <= hidden_size, got rank 64 for hidden_size 8: lower the rank, or",
    ),
    "a vector": (lambda w: low_rank_from(w[0], 2), "in floating point, got torch.float64 of shape"),
    "whole numbers": (lambda w: low_rank_from(w.long(), 2), "got torch.int64 of shape (40, 8)"),
    "the moment of another width": (
        lambda w: low_rank_from(w, 2, second_moment=torch.eye(3)),
        "a second_moment of shape (8, 8) beside a matrix of shape (40, 8), got (3, 3)",
    ),
    "a bias of another vocabulary": (
        lambda w: low_rank_from(w, 2, bias=torch.zeros(3)),
        "a bias of shape (40,) beside a matrix of shape (40, 8), got (3,)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_one_sentence(case):
    make, message = BAD[case]
    with pytest.raises(WideneckError, match=re.escape(message)):
        make(softmax_head()[0])
