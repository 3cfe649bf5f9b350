"""Verdicts on unargmaxable tokens: each against its definition in numpy, and a dense LP as twin."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.spatial import ConvexHull
from torch import Tensor

from wideneck.audits.argmaxable import Argmaxable, find_unargmaxable, self_test_witness
from wideneck.audits.argmaxable.distinct import group_equal_rows
from wideneck.audits.argmaxable.exact import nearest_point, solve_program
from wideneck.audits.argmaxable.head import make_head
from wideneck.audits.argmaxable.self_tests import ieee_float32, make_cloud, self_test, whitening
from wideneck.audits.argmaxable.verdict import Enclosed, Found
from wideneck.errors import WideneckError


def random_rows(num_rows: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(num_rows, width, generator=torch.Generator().manual_seed(seed))


def verify(weight: Tensor, bias: Tensor | None, found: Argmaxable) -> list[int]:
    """Checks every witness and certificate in float64 numpy; returns the unargmaxable ids.

    Shares no code with the package: a verdict that passes here is true.
    """
    w_VD = weight.double().numpy()
    b_V = np.zeros(len(w_VD)) if bias is None else bias.double().numpy()
    box = 1.0 if found.box is None else found.box
    s_D = np.sqrt(((w_VD / np.abs(w_VD).max(1, keepdims=True).clip(1e-300)) ** 2).mean(0))
    s_D[s_D == 0] = 1
    r_V = (np.abs(w_VD) / s_D).max(1)
    lifted = np.column_stack([w_VD, b_V])

    def check_witness(i: int, x: np.ndarray) -> None:
        others = (lifted != lifted[i]).any(1)
        assert ((w_VD[i] - w_VD[others]) @ x + b_V[i] - b_V[others] > 0).all()
        assert found.box is None or np.abs(x).max() <= box

    for entry in found.unargmaxable:
        a = np.array(entry.certificate.weights)
        j = entry.certificate.tokens
        assert (a >= 0).all()
        assert a.sum() == pytest.approx(1, abs=1e-12)
        # The row itself must not vouch for itself.
        assert (lifted[j] != lifted[entry.token]).any(1).all()
        size = r_V[entry.token] + a @ r_V[j]
        bias_size = np.abs(b_V[entry.token]) + a @ np.abs(b_V[j])
        residual = np.abs(a @ (w_VD[entry.token] - w_VD[j]))
        gap = a @ (b_V[entry.token] - b_V[j])
        # No x of the box has a margin above the tolerance.
        over = np.maximum(residual - (found.tolerance + 1e-12) * size * s_D, 0).sum()
        assert box * over + gap - (found.tolerance + 1e-12) * bias_size <= 0
        scale = box * size * s_D.sum() + bias_size
        assert box * residual.sum() + gap <= (entry.bound + 1e-12) * scale
        assert entry.bound <= found.tolerance

    unargmaxable = [entry.token for entry in found.unargmaxable]
    by_search = {witness.token for witness in found.witnesses}
    for witness in found.witnesses:
        check_witness(witness.token, np.array(witness.x))
    copies = {token for tie in found.ties for token in tie.tokens[1:]}
    rest = set(range(len(w_VD))) - set(unargmaxable) - by_search - copies
    rest -= {entry.token for entry in found.undecided}
    if found.num_distinct > 1:
        for method in ("whitened", "plain"):
            tokens = sorted(i for i in rest if (i in found.plain) == (method == "plain"))
            states = self_test_witness(weight, tokens, method, bias, box=found.box)
            for i, x in zip(tokens, states.numpy(), strict=True):
                check_witness(i, x)
        assert sum(found.decided_by.values()) + len(found.undecided) == found.num_distinct
    return unargmaxable


def dense_program(weight: Tensor, bias: Tensor | None, box: float) -> list[float]:
    """The best margin of every row: one LP each, all constraints. The slow twin."""
    w_VD = weight.double().numpy()
    b_V = np.zeros(len(w_VD)) if bias is None else bias.double().numpy()
    width = w_VD.shape[1]
    best = []
    for i in range(len(w_VD)):
        j = np.arange(len(w_VD)) != i
        solved = linprog(
            np.append(np.zeros(width), -1),
            A_ub=np.column_stack([w_VD[j] - w_VD[i], np.ones(j.sum())]),
            b_ub=b_V[i] - b_V[j],
            bounds=[(-box, box)] * width + [(None, None)],
            method="highs",
        )
        best.append(-solved.fun)
    return best


def plant(weight: Tensor, tokens: list[int], seed: int = 1) -> None:
    """Puts convex combinations of many rows in the place of `tokens`."""
    generator = torch.Generator().manual_seed(seed)
    outer = torch.tensor([j for j in range(len(weight)) if j not in tokens])
    for i in tokens:
        share = torch.rand(len(outer), generator=generator, dtype=torch.float64)
        weight[i] = ((share / share.sum()) @ weight[outer].double()).to(weight.dtype)


def test_finds_exactly_the_planted_interior_rows():
    weight = random_rows(2000, 32)
    planted = [3, 500, 777, 1500, 1999]
    plant(weight, planted)

    found = find_unargmaxable(weight, tokens=[f"t{i}" for i in range(1999)])

    assert verify(weight, None, found) == planted
    assert [entry.string for entry in found.unargmaxable] == ["t3", "t500", "t777", "t1500", None]
    assert found.undecided == []


@pytest.mark.parametrize("width", [2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_argmaxable_rows_are_the_vertices_of_the_hull(width, seed):
    weight = random_rows(150, width, seed)
    vertices = set(ConvexHull(weight.double().numpy()).vertices.tolist())

    found = find_unargmaxable(weight)

    assert set(range(150)) - set(verify(weight, None, found)) == vertices
    assert found.undecided == []


def test_on_a_line_only_the_ends_are_argmaxable():
    weight = torch.tensor([[0.3], [-2.0], [1.0], [5.0], [4.999]])

    assert verify(weight, None, find_unargmaxable(weight)) == [0, 2, 4]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=12, unique=True
    )
)
def test_points_of_a_grid_on_edges_and_corners(points):
    """Edge points are the degenerate case: inside the hull, on its boundary, never strict."""
    weight = torch.tensor(points, dtype=torch.float32)
    best = dense_program(weight, None, box=1.0)

    found = find_unargmaxable(weight)

    assert found.undecided == []
    assert verify(weight, None, found) == [i for i, margin in enumerate(best) if margin < 1e-6]


@pytest.mark.parametrize("box", [None, 1.0, 0.1])
@pytest.mark.parametrize("seed", range(2))
def test_agrees_with_the_dense_program(box, seed):
    weight = random_rows(60, 5, seed)
    bias = None if box is None else random_rows(60, 1, seed + 9).flatten()
    best = dense_program(weight, bias, box or 1.0)

    found = find_unargmaxable(weight, bias, box=box)

    assert min(abs(margin) for margin in best if margin != 0) > 1e-6  # no close call in the data
    assert found.undecided == []
    assert verify(weight, bias, found) == [i for i, margin in enumerate(best) if margin < 1e-6]


@pytest.mark.parametrize("box", [None, 0.5])
def test_the_program_alone_decides_every_row(box):
    weight = random_rows(60, 5, 3)
    bias = None if box is None else random_rows(60, 1, 4).flatten()
    head = make_head(weight, bias, torch.arange(60), box or 1.0)
    best = dense_program(weight, bias, box or 1.0)

    for i in range(60):
        start = torch.tensor([j for j in range(12) if j != i])
        proof = solve_program(head, i, torch.zeros(60, dtype=torch.bool), start, math.inf)
        assert isinstance(proof, Found if best[i] > 1e-6 else Enclosed)


def test_the_hull_alone_decides_every_row_without_a_bias():
    weight = random_rows(300, 6, 5)
    head = make_head(weight, None, torch.arange(300), 1.0)
    cloud = make_cloud(head, whitening(head))
    vertices = set(ConvexHull(weight.double().numpy()).vertices.tolist())

    for i in range(300):
        proof, _ = nearest_point(head, cloud, i, torch.zeros(300, dtype=torch.bool), math.inf)
        assert isinstance(proof, Found if i in vertices else Enclosed)


def test_a_bias_can_lift_an_inner_token():
    weight = random_rows(400, 6)
    weight[7] = weight.mean(0)
    bias = torch.zeros(400)
    assert 7 in verify(weight, bias, find_unargmaxable(weight, bias))

    bias[7] = 0.5
    found = find_unargmaxable(weight, bias)

    assert 7 not in verify(weight, bias, found)
    assert found.undecided == []


def test_a_bias_can_sink_an_outer_token_as_far_as_the_box_reaches():
    weight = random_rows(50, 40)
    bias = torch.zeros(50)
    bias[7] = -30.0
    assert verify(weight, bias, find_unargmaxable(weight, bias, box=100.0)) == []

    found = find_unargmaxable(weight, bias, box=0.1)

    assert verify(weight, bias, found) == [7]
    assert found.box == 0.1


def test_equal_rows_are_ties_and_share_the_verdict():
    weight = random_rows(300, 8)
    plant(weight, [4])
    weight[200] = weight[4]
    weight[10] *= 5  # out of the hull of the others
    weight[[11, 150]] = weight[10].clone()
    weight[12] = torch.tensor([0.0, -0.0, 1, 1, 1, 1, 1, 9])
    weight[13] = torch.tensor([-0.0, 0.0, 1, 1, 1, 1, 1, 9])

    found = find_unargmaxable(weight)

    inside = verify(weight, None, found)
    assert {4, 200} <= set(inside)
    assert not {10, 11, 12, 13, 150} & set(inside)
    assert [tie.tokens for tie in found.ties] == [[4, 200], [10, 11, 150], [12, 13]]
    assert found.num_distinct == 296


def test_of_rows_that_differ_in_bias_only_the_highest_wins():
    weight = random_rows(30, 5)
    weight[3] = weight[2]
    bias = torch.zeros(30)
    bias[3] = 1e-3

    found = find_unargmaxable(weight, bias)

    inside = verify(weight, bias, found)
    assert 2 in inside
    assert 3 not in inside
    assert found.ties == []
    assert found.undecided == []


@pytest.mark.parametrize("bias", [None, torch.zeros(9)])
def test_rows_all_equal_are_one_tie(bias):
    found = find_unargmaxable(torch.full((9, 4), 0.1), bias)

    assert [tie.tokens for tie in found.ties] == [list(range(9))]
    assert found.unargmaxable == []
    assert found.smallest_margin is None


@pytest.mark.parametrize("fill", [0.0, 0.1])
def test_rows_all_equal_are_told_apart_by_the_bias(fill):
    weight, bias = torch.full((5, 4), fill), torch.tensor([0.0, 1.0, 3.0, 2.0, 3.0])

    found = find_unargmaxable(weight, bias)

    assert verify(weight, bias, found) == [0, 1, 3]
    assert [tie.tokens for tie in found.ties] == [[2, 4]]


@pytest.mark.parametrize("num_rows", [1, 2, 10, 17])
def test_up_to_d_plus_one_rows_in_general_position_are_all_argmaxable(num_rows):
    weight = random_rows(num_rows, 16)

    found = find_unargmaxable(weight)

    assert verify(weight, None, found) == []
    assert found.undecided == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_judges_the_numbers_as_stored(dtype):
    weight = random_rows(60, 5).to(dtype)
    plant(weight, [4, 9])
    best = dense_program(weight, None, 1.0)
    inside = verify(weight, None, find_unargmaxable(weight))

    assert inside == [i for i, margin in enumerate(best) if margin < 1e-6]
    assert {4, 9} <= set(inside)
    # Out of the hull by a digit that the next shorter type does not have.
    digit = {torch.float32: 2**-18, torch.float64: 2**-30}.get(dtype, torch.finfo(dtype).eps)
    weight = torch.tensor([[1, 1], [1, -1], [-1, 0], [1 + digit, 0]], dtype=dtype)
    assert find_unargmaxable(weight).unargmaxable == []


@pytest.mark.parametrize("num_mixed", [2, 3, 10, 20, 200])
def test_rounding_to_float32_does_not_push_a_mixture_out_of_the_hull(num_mixed):
    """A mixture of few rows lies on a face; its stored form is outside by 2^-24 or inside."""
    weight = random_rows(1500, 32)
    outer = torch.randperm(1490, generator=torch.Generator().manual_seed(3))[:num_mixed]
    share = torch.rand(10, num_mixed, generator=torch.Generator().manual_seed(4)).double()
    share = share / share.sum(1, keepdim=True)
    weight[1490:] = (share @ weight[outer].double()).float()

    found = find_unargmaxable(weight)

    assert verify(weight, None, found) == list(range(1490, 1500))
    assert found.undecided == []


@pytest.mark.parametrize(("outside", "unargmaxable"), [(0, [3]), (2**-23, [3]), (2**-18, [])])
def test_a_row_is_called_outside_from_the_tolerance_on(outside, unargmaxable):
    weight = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 0.0], [1.0 + outside, 0.0]])

    found = find_unargmaxable(weight)

    assert verify(weight, None, found) == unargmaxable
    assert found.undecided == []


def test_one_vector_added_to_every_row_changes_nothing():
    weight = random_rows(100, 6).double()
    bias = random_rows(100, 1, 5).flatten().double()

    before = find_unargmaxable(weight, bias, box=1.0)
    after = find_unargmaxable(weight + 3.25, bias - 7.5, box=1.0)

    assert [entry.token for entry in before.unargmaxable]
    assert [e.token for e in before.unargmaxable] == [e.token for e in after.unargmaxable]
    assert after.smallest_margin == pytest.approx(before.smallest_margin, rel=1e-3)


def test_float32_scores_are_not_believed_beyond_their_rounding():
    weight = random_rows(200, 16)
    head = make_head(weight, None, torch.arange(200), 1.0)
    cloud = make_cloud(head, whitening(head))
    noise = torch.zeros_like(cloud.lifted)
    noise[:, 16] = 1e4 * cloud.lifted[:, 16]
    noisy = dataclasses.replace(cloud, lifted=cloud.lifted + noise)

    passed, margins = self_test(head, noisy, torch.arange(200), "whitened", None)

    assert not passed.any()
    assert len(margins) == 0


def test_a_lowered_matmul_precision_is_lifted_for_the_products_only():
    before = torch.backends.mkldnn.matmul.fp32_precision
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    try:
        left, right = random_rows(256, 256), random_rows(256, 256, 1)
        with ieee_float32():
            product = left @ right.T
        gold = left.double() @ right.double().T
        assert (product - gold).abs().max() < 1e-3
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = before


def test_a_hash_collision_does_not_merge_rows(monkeypatch):
    from wideneck.audits.argmaxable import distinct

    monkeypatch.setattr(distinct, "_bits", lambda values: torch.zeros(values.shape, dtype=int))
    weight = torch.tensor([[1.0], [2.0], [1.0], [3.0]])

    assert group_equal_rows(weight, None) == [[0, 2], [1], [3]]
    assert group_equal_rows(weight, torch.tensor([0.0, 0, 1, 0])) == [[0], [1], [2], [3]]


def test_the_result_is_plain_data_and_progress_is_told():
    weight = random_rows(200, 4)
    calls = []

    found = find_unargmaxable(weight, progress=lambda *call: calls.append(call))

    again = json.loads(json.dumps(dataclasses.asdict(found)))
    assert again["decided_by"] == found.decided_by
    assert {stage for stage, _, _ in calls} >= {"whitened", "plain", "hull"}
    assert all(0 < done <= total for _, done, total in calls)
    for field in dataclasses.fields(Argmaxable):
        assert field.metadata["definition"]


@pytest.mark.parametrize(
    ("weight", "bias", "box", "message"),
    [
        (torch.zeros(3), None, None, r"needs a \(V, D\) weight"),
        (torch.zeros(3, 2, dtype=torch.int64), None, None, "weight of floats"),
        (torch.zeros(3, 2), torch.zeros(2), None, "bias of shape"),
        (torch.full((3, 2), torch.nan), None, None, "not finite"),
        (torch.zeros(3, 2), torch.tensor([0, 0, -torch.inf]), None, "bias has values"),
        (torch.zeros(3, 2), torch.zeros(3), -1.0, "positive"),
    ],
)
def test_refuses_what_it_cannot_judge(weight, bias, box, message):
    with pytest.raises(WideneckError, match=message):
        find_unargmaxable(weight, bias, box=box)
