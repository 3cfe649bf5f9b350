"""Each stage of the search by itself: what it decides, what it may not, and when it ends."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull
from torch import Tensor

from wideneck.audits.argmaxable import find_proof, find_unargmaxable
from wideneck.audits.argmaxable import head as head_module
from wideneck.audits.argmaxable import reflect as reflect_module
from wideneck.audits.argmaxable.exact import nearest_point
from wideneck.audits.argmaxable.head import make_head
from wideneck.audits.argmaxable.reflect import PATIENCE, reflect
from wideneck.audits.argmaxable.result import Certificate, Witness
from wideneck.audits.argmaxable.self_tests import make_cloud, queries, scaling, whitening
from wideneck.audits.argmaxable.verdict import Found, check_certificate, rows_of
from wideneck.errors import WideneckError


def random_rows(num_rows: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(num_rows, width, generator=torch.Generator().manual_seed(seed))


def clouded(weight, bias=None, box=1.0, make=whitening):
    head = make_head(weight, bias, torch.arange(len(weight)), box)
    return head, make_cloud(head, make(head))


def nobody(weight):
    return torch.zeros(len(weight), dtype=torch.bool)


def test_every_token_has_a_proof_of_its_own_the_first_one_too():
    weight = random_rows(12, 2)
    vertices = set(ConvexHull(weight.double().numpy()).vertices.tolist())
    for first in (min(vertices), min(set(range(12)) - vertices)):
        rolled = weight.roll(-first, 0)  # a vertex, then an inner row, in the first place
        for token in range(12):
            outer = (token + first) % 12 in vertices
            assert isinstance(find_proof(rolled, token), Witness if outer else Certificate)
    for token in (-1, 12):
        with pytest.raises(WideneckError, match="one of the 12 rows"):
            find_proof(weight, token)


@pytest.mark.parametrize("num_rows", [1, 4, 5, 8, 9])
def test_chunks_hold_every_row_once_in_its_place(num_rows, monkeypatch):
    monkeypatch.setattr(head_module, "_CHUNK", 4)
    weight = random_rows(num_rows, 3)
    head = make_head(weight, None, torch.arange(num_rows), 1.0)
    found = torch.full((num_rows, 3), math.nan, dtype=torch.float64)
    for part, rows in head.chunks():
        assert found[part].isnan().all()
        found[part] = rows
    assert torch.equal(found, weight.double())


def walked(head, cloud, index_N):
    """Which rows win, and the number of steps that were told."""
    steps = []
    won_N, _, _ = reflect(head, cloud, index_N, lambda _, done, total: steps.append((done, total)))
    assert steps == [(k + 1, PATIENCE) for k in range(len(steps))]
    return set(won_N.tolist()), len(steps)


def winners(weight, transform, num_steps):
    """The walk of every row written out in float64, and who has won after so many steps."""
    w, T = weight.double().numpy(), transform.numpy()
    u = (w - w.mean(0)) @ T.T
    home = set()
    for i in range(len(u)):
        v = u[i]
        for _ in range(num_steps):
            scores = u @ v
            scores[i] = -np.inf
            j = scores.argmax()
            apart = u[i] - u[j]
            if v @ apart > 0:
                home.add(i)
                break
            v = v - 2 * (v @ apart) / (apart @ apart) * apart
    return home


def test_a_walk_goes_on_until_its_row_wins():
    """On a cloud that is far from round, where one step brings few rows home."""
    weight = random_rows(40, 3) * torch.tensor([1.0, 5.0, 30.0])
    head, cloud = clouded(weight, make=scaling)
    at_once, in_the_end = (winners(weight, cloud.transform, k) for k in (1, 10))
    assert len(in_the_end) > len(at_once) + 3
    found, num_steps = walked(head, cloud, torch.arange(40))
    assert found >= in_the_end
    assert num_steps > 1


def test_the_walks_end_where_all_have_won_and_where_nobody_does_any_more():
    weight = random_rows(60, 3)
    vertices = set(ConvexHull(weight.double().numpy()).vertices.tolist())
    head, cloud = clouded(weight)
    at_once = winners(weight, cloud.transform, 1)
    assert walked(head, cloud, torch.tensor(sorted(at_once))) == (at_once, 1)
    inner = torch.tensor(sorted(set(range(60)) - vertices))
    assert walked(head, cloud, inner) == (set(), 10)  # idle for ten steps


@pytest.mark.parametrize("scores", [1, 200])
def test_walkers_one_by_one_or_some_at_a_time_walk_as_all_at_once(scores, monkeypatch):
    weight = random_rows(40, 3) * torch.tensor([1.0, 5.0, 30.0])
    head, cloud = clouded(weight, make=scaling)
    whole = reflect(head, cloud, torch.arange(40), None)
    monkeypatch.setattr(reflect_module, "_SCORES", scores)
    blocks = reflect(head, cloud, torch.arange(40), None)
    assert blocks[0].tolist() == whole[0].tolist()
    torch.testing.assert_close(blocks[1], whole[1], rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(blocks[2], whole[2], rtol=1e-3, atol=1e-3)


def test_the_hull_finds_the_state_at_which_a_bias_decides():
    """The origin beats all others there, by its bias alone; far out in the box it loses."""
    weight = torch.cat([torch.zeros(1, 4), random_rows(60, 4)])
    bias = torch.cat([torch.tensor([1.0]), torch.zeros(60)])
    head, cloud = clouded(weight, bias, box=5.0)
    proof, _ = nearest_point(head, cloud, 0, nobody(weight), math.inf)
    assert isinstance(proof, Found)
    scores = weight.double() @ proof.x + bias.double()
    assert scores.argmax().item() == 0
    corner = 5.0 * weight[1:].sign().double()
    assert ((weight[1:].double() * corner).sum(1) > 1).all()


def test_the_hull_stops_at_its_deadline():
    weight = random_rows(50, 3)
    head, cloud = clouded(weight)
    for i in range(5):
        proof, active = nearest_point(head, cloud, i, nobody(weight), -math.inf)
        assert proof is None
        assert len(active) > 0
        assert nearest_point(head, cloud, i, nobody(weight), math.inf)[0] is not None


def test_a_row_without_rivals_is_left_open_by_the_hull():
    weight = random_rows(20, 3)
    head, cloud = clouded(weight)
    barred = torch.ones(20, dtype=torch.bool)
    barred[4] = False
    proof, active = nearest_point(head, cloud, 4, barred, math.inf)
    assert (proof, len(active)) == (None, 0)


def test_no_weights_prove_nothing_of_a_row_of_zeros_either():
    weight = torch.cat([torch.zeros(1, 3), random_rows(8, 3)])
    head = make_head(weight, None, torch.arange(9), 1.0)
    rows, rivals = rows_of(head, torch.tensor([0])), torch.arange(1, 9)
    for weights in (np.zeros(8), np.full(8, -1.0), np.full(8, math.inf)):
        assert check_certificate(head, rows, rivals, weights) is None


@pytest.mark.parametrize("exponent", [-30, 30])
def test_a_head_times_a_power_of_two_has_the_same_proofs(exponent):
    """Bounds and margins are relative: they know no unit."""
    weight = random_rows(100, 3)
    found, scaled = (find_unargmaxable(w) for w in (weight, weight * 2.0**exponent))
    assert len(found.unargmaxable) > 20
    for one, other in zip(found.unargmaxable, scaled.unargmaxable, strict=True):
        assert one.token == other.token
        assert one.bound == pytest.approx(other.bound, rel=1e-6, abs=1e-18)
        assert one.certificate.residual == pytest.approx(
            other.certificate.residual, rel=1e-6, abs=1e-18
        )
    for name in ("smallest_margin", "median_margin"):
        assert getattr(found, name) == pytest.approx(getattr(scaled, name), rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_guard_of_a_self_test_is_no_larger_than_its_sum_where_all_rows_are_alike(dtype):
    """Cauchy and Schwarz are attained there, so any factor on top would only cost verdicts.

    The rows are signs at right angles and their opposites: one length, one size, a mean of zero.
    """
    width = 16
    signs = torch.ones(1, 1, dtype=dtype)
    while len(signs) < width:
        signs = torch.cat([torch.cat([signs, signs], 1), torch.cat([signs, -signs], 1)])
    weight = torch.cat([signs, -signs])
    head, cloud = clouded(weight, make=scaling)
    query = queries(head, cloud, torch.arange(2 * width))
    guard_NM = (query[:, -1:] @ cloud.lifted[:, -1:].T).double()

    x_ND = query[:, :width].double() @ cloud.transform
    tolerance = 2.0**-23 if dtype == torch.float32 else 2.0**-36
    for i, j in ((0, 1), (3, 20), (7, 7)):
        pairs = tolerance * (x_ND[i].abs() @ head.columns) * head.rival_sizes[j]
        length = x_ND[i].norm() * weight[j].double().norm()
        # D products and sums, and at most ten roundings more: u_j, v, c_j.
        least, most = (pairs + n * 2.0**-24 * length for n in (width, width + 10))
        assert least <= guard_NM[i, j] <= most * (1 + 1e-4)
