"""Verdicts on rows of very different size, and on rows that hardly differ."""

from itertools import islice

import numpy as np
import pytest
import torch
from bench.argmax_rows import Tally, best_margins, heads, judge, recheck
from torch import Tensor

from wideneck.audits.argmaxable import find_proof, find_unargmaxable, report, self_test_witness
from wideneck.audits.argmaxable.head import make_head
from wideneck.audits.argmaxable.result import Certificate, Witness
from wideneck.audits.argmaxable.self_tests import (
    make_cloud,
    queries,
    scaling,
    self_test,
    whitening,
)
from wideneck.audits.argmaxable.verdict import check_certificate, rows_of
from wideneck.errors import WideneckError


def random_rows(num_rows: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(num_rows, width, generator=torch.Generator().manual_seed(seed))


def unreachable(found) -> set[int]:
    return {entry.token for entry in found.unargmaxable}


@pytest.mark.parametrize("factor", [1e-8, 1.0, 1e4, 1e7])
def test_one_row_of_another_size_costs_no_other_row_its_verdict(factor):
    weight = random_rows(120, 6)
    weight[3] *= factor
    best = best_margins(weight.double().numpy(), np.zeros(120), 1.0)

    found = find_unargmaxable(weight)

    recheck(weight, None, found)
    assert found.undecided == []
    assert unreachable(found) == set(np.flatnonzero(best < 1e-8).tolist())
    assert np.abs(best[best > 1e-8]).min() > 1e-6  # no close call in the data


@pytest.mark.parametrize("factor", [1e-8, 1e8])
def test_one_bias_of_another_size_costs_no_other_row_its_verdict(factor):
    weight, bias = random_rows(60, 4), random_rows(60, 1, 1).flatten()
    bias[3] = -abs(bias[3]) * factor  # cannot win, and stands in nobody's way
    others = [i for i in range(60) if i != 3]
    expected = unreachable(find_unargmaxable(weight[others], bias[others]))

    found = find_unargmaxable(weight, bias)

    recheck(weight, bias, found)
    assert unreachable(found) - {3} == {others[k] for k in expected}


def test_a_column_of_another_size_changes_no_verdict():
    weight = random_rows(60, 4).double()
    before = find_unargmaxable(weight)

    after = find_unargmaxable(weight * torch.tensor([1e6, 1.0, 1e-6, 1e3]).double())

    assert unreachable(before)
    assert unreachable(after) == unreachable(before)
    assert after.undecided == []


def test_rows_that_differ_in_a_tiny_column_alone_are_told_apart_by_it():
    weight = torch.full((9, 3), 1e25)
    weight[:, 1] = random_rows(9, 1).flatten()

    found = find_unargmaxable(weight)

    assert found.ties == []
    ends = {weight[:, 1].argmin().item(), weight[:, 1].argmax().item()}
    assert not unreachable(found) & ends


@pytest.mark.parametrize("distance", [1e-8, 1e-7, 3e-7, 1e-6])
def test_of_rows_in_pairs_none_is_unreachable_because_of_its_twin(distance):
    """Points of a sphere, so each is a vertex without its twin, which can hide it from behind."""
    weight = torch.nn.functional.normalize(random_rows(60, 8), dim=1)
    weight = torch.cat([weight, weight + distance * random_rows(60, 8, 1)])
    best = best_margins(weight.double().numpy(), np.zeros(120), 1.0)

    found = find_unargmaxable(weight)

    recheck(weight, None, found)
    inside = unreachable(found)
    assert all(best[i] < 1e-4 for i in inside)
    assert not any(i + 60 in inside for i in inside)
    if distance == 1e-8:
        assert [tie.tokens for tie in found.ties] == [[i, i + 60] for i in range(60)]
        assert not inside


def test_rows_tie_up_to_the_tolerance_and_no_further():
    weight = random_rows(40, 6)
    weight[30] = weight[2]
    weight[31] = weight[2]
    weight[32] = weight[2]
    unit = 2.0**-23
    columns, sizes = _scales(weight)
    weight[31, 4] += 1.5 * unit * sizes[2] * columns[4]  # of 2 unit r s
    weight[32, 4] += 3.0 * unit * sizes[2] * columns[4]

    ties = [tie.tokens for tie in find_unargmaxable(weight).ties]

    assert ties == [[2, 30, 31]]
    bias = torch.zeros(40)
    bias[31] = 1e-3
    assert [tie.tokens for tie in find_unargmaxable(weight, bias).ties] == [[2, 30]]


def _scales(weight: Tensor) -> tuple[list[float], list[float]]:
    """s and r by their definition, number by number."""
    num_rows, width = weight.shape
    largest = [max(abs(x) for x in row) for row in weight.tolist()]
    columns = [
        (sum((weight[j, k].item() / largest[j]) ** 2 for j in range(num_rows)) / num_rows) ** 0.5
        for k in range(width)
    ]
    sizes = [max(abs(x) / s for x, s in zip(row, columns, strict=True)) for row in weight.tolist()]
    return columns, sizes


@pytest.mark.parametrize("seed", range(4))
def test_biases_that_tie_cost_no_proof_its_margin_over_any_of_them(seed):
    """Biases of a million, a spacing or three apart: half the rows twice, with a bias that ties."""
    generator = torch.Generator().manual_seed(seed)
    rows = 5e-3 * torch.randn(12, 2, generator=generator)
    spacings = torch.randint(-3, 4, (12,), generator=generator)
    bias = torch.full((12,), 1e6) + 0.0625 * spacings
    weight, bias = torch.cat([rows, rows[:6]]), torch.cat([bias, bias[:6] + 0.1875])
    found = find_unargmaxable(weight, bias)
    assert {(0, 12), (1, 13), (2, 14)} <= {
        tuple(tie.tokens[:1] + tie.tokens[-1:]) for tie in found.ties
    }
    recheck(weight, bias, found)
    best = best_margins(weight.double().numpy(), bias.double().numpy(), found.box)
    assert not [entry.token for entry in found.unargmaxable if best[entry.token] > 1e-4]


def test_the_tolerance_of_a_pair_is_the_documented_one():
    weight, bias = random_rows(30, 4), random_rows(30, 1, 1).flatten()
    weight[7] *= 1e5
    head = make_head(weight, bias, torch.arange(30), 2.0)
    columns, sizes = _scales(weight)
    x_1D = random_rows(1, 4, 2).double()
    cost = sum(s * abs(x) for s, x in zip(columns, x_1D[0].tolist(), strict=True))

    tolerance = head.tolerances(torch.tensor([3]), x_1D)[0]

    for j in (0, 7, 29):
        expected = (sizes[3] + sizes[j]) * cost + abs(bias[3].item()) + abs(bias[j].item())
        assert tolerance[j].item() == pytest.approx(2.0**-23 * expected, rel=1e-6)
    lead = head.leads(torch.tensor([3]), x_1D)[0]
    exact = (
        (weight[3].double() - weight[7].double()) @ x_1D[0] + bias[3].double() - bias[7].double()
    )
    assert lead[7].item() == pytest.approx(exact.item(), rel=1e-9)


def test_rows_on_a_fine_arc_are_not_all_mixtures_of_each_other():
    """Each is within the tolerance of the chord of its neighbours, and each is a vertex."""
    angle = torch.arange(40).double() * 4e-6
    arc = torch.stack([angle.cos(), angle.sin()], dim=1)
    weight = torch.cat([arc, torch.tensor([[-1.0, 1.0], [-1.0, -1.0]]).double()])

    found = find_unargmaxable(weight)

    recheck(weight, None, found)
    inside = unreachable(found)
    assert 0 < len(inside) < 38
    for entry in found.unargmaxable:  # they were found in this order
        assert not any(j < entry.token and j in inside for j in entry.certificate.tokens)


def test_weights_that_miss_the_row_by_more_than_the_tolerance_prove_nothing():
    weight = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 0.0], [1.0, 0.0]]).double().float()
    columns, sizes = _scales(weight)
    allowed = 2.0**-23 * (sizes[3] + (sizes[0] + sizes[1]) / 2)
    for share, proved in ((0.9, True), (1.2, False)):
        weight[3, 0] = 1.0
        moved = weight.double()
        moved[3, 0] += share * allowed * columns[0]
        head = make_head(moved.float(), None, torch.arange(4), 1.0)
        rows = rows_of(head, torch.tensor([3]))
        found = check_certificate(head, rows, torch.tensor([0, 1]), np.array([0.5, 0.5]))
        assert (found is not None) is proved
    wrong = check_certificate(head, rows, torch.tensor([0, 1]), np.array([0.7, 0.3]))
    assert wrong is None
    assert check_certificate(head, rows, torch.tensor([0, 1]), np.array([-1.0, -1.0])) is None


@pytest.mark.parametrize("make", [whitening, scaling])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("offset", [0.5, 300.0])  # rounding decides, and the tolerance
def test_a_self_test_allows_for_the_tolerance_and_the_rounding_of_every_pair(
    make, with_bias, offset
):
    """A twin in float64 for every pair: what the product adds to a score covers both."""
    weight = random_rows(80, 24) + offset
    weight[[5, 6]] *= torch.tensor([[1e6], [1e-6]])
    bias = random_rows(80, 1, 1).flatten() if with_bias else None
    head = make_head(weight, bias, torch.arange(80), 3.0)
    transform = make(head)
    cloud = make_cloud(head, transform)
    query = queries(head, cloud, torch.arange(80))
    score_NM = (query @ cloud.lifted.T).double()  # with what guards it

    x_ND = query[:, :24].double() @ transform
    exact_NM = x_ND @ (weight.double() - head.centre).T + head.bias
    tau_NM = head.tolerances(torch.arange(80), x_ND)
    own_tau_N = head.unit * (head.sizes * (x_ND.abs() @ head.columns) + head.bias_sizes)

    assert (score_NM >= exact_NM + tau_NM - own_tau_N[:, None] * 1.001).all()
    # Not by much, either: a guard that refuses everything would pass the line above.
    ordinary = [i for i in range(80) if i not in (5, 6)]
    own_N = (x_ND * (weight.double() - head.centre)).sum(1)
    guard = (score_NM - exact_NM)[ordinary][:, ordinary]
    assert (guard < 1e-3 * own_N[ordinary].abs().median() + 1e-3).all()

    passed, margins = self_test(head, cloud, torch.arange(80), "whitened", None)
    won = passed.nonzero().flatten()
    assert len(won) > (20 if offset < 1 else 1)
    over_N = (head.leads(won, x_ND[won]) - head.tolerances(won, x_ND[won])).amin(1)
    assert (margins <= head.relative(over_N, x_ND[won].norm(dim=1))).all()


def test_random_heads_agree_with_an_independent_linear_program():
    """720 rows of every awkward kind; `python -m bench audit rows` draws 3,000 afresh."""
    tally = Tally()
    for kind, weight, bias in islice(heads(20), 24):
        if weight.dtype == torch.float32:
            assert judge(weight, bias, tally) == [], kind
    assert tally.rows == 720
    assert tally.unargmaxable > 100
    assert tally.undecided <= 7


def test_a_proof_that_a_report_leaves_out_is_found_anew(monkeypatch):
    weight = random_rows(100, 3)
    whole = find_unargmaxable(weight)
    monkeypatch.setattr(report, "NUMBERS", 10)

    found = find_unargmaxable(weight)

    assert [e.token for e in found.unargmaxable] == [e.token for e in whole.unargmaxable]
    kept = [entry for entry in found.unargmaxable if entry.certificate.tokens]
    assert sum(len(entry.certificate.tokens) for entry in kept) <= 10
    assert len(kept) < len(found.unargmaxable)
    last = found.unargmaxable[-1]
    proof = find_proof(weight, last.token)
    assert isinstance(proof, Certificate)
    point = sum(a * weight[j].double() for a, j in zip(proof.weights, proof.tokens, strict=True))
    assert (point - weight[last.token].double()).abs().max() < 1e-6
    outer = weight.norm(dim=1).argmax().item()
    proof = find_proof(weight, outer)
    assert isinstance(proof, Witness)
    margin = weight.double() @ torch.tensor(proof.x, dtype=torch.float64)
    assert margin.argmax().item() == outer
    with pytest.raises(WideneckError, match="one of the 100 rows"):
        find_proof(weight, 100)


def margins_of_witnesses(weight, found):
    """Rising: each margin over the norm of its state and the median length of a centred row."""
    w_VD = weight.double().numpy()
    lengths = np.sort(np.linalg.norm(w_VD - w_VD.mean(0), axis=1))
    x = {witness.token: np.array(witness.x) for witness in found.witnesses}
    inside = {entry.token for entry in found.unargmaxable}
    rest = [i for i in range(len(w_VD)) if i not in inside and i not in x]
    for method in ("whitened", "plain"):
        tokens = [i for i in rest if (i in found.plain) == (method == "plain")]
        x |= dict(zip(tokens, self_test_witness(weight, tokens, method).numpy(), strict=True))
    margins = []
    for i, x_D in x.items():
        scores = w_VD @ x_D
        margins.append((scores[i] - np.delete(scores, i).max()) / np.linalg.norm(x_D))
    return np.sort(margins) / lengths[(len(lengths) - 1) // 2]


@pytest.mark.parametrize("width", [8, 32])
def test_the_margins_told_are_those_of_the_witnesses(width):
    """Bounded from below: less the tolerance, and what float32 may be off."""
    weight = torch.randn(300, width, generator=torch.Generator().manual_seed(0))
    found = find_unargmaxable(weight)
    assert found.undecided == []
    margins = margins_of_witnesses(weight, found)
    assert 0 < margins[0]
    assert -1e-12 < margins[0] - found.smallest_margin < 2e-5
    assert -1e-12 < margins[(len(margins) - 1) // 2] - found.median_margin < 2e-5
