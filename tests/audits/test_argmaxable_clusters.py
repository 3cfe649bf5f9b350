"""Rows that lie together are decided together, and as the slow stages decide them."""

import math
import time

import pytest
import torch
from bench.argmax_rows import recheck
from torch import Tensor

from wideneck.audits.argmaxable import cluster, find_unargmaxable, search
from wideneck.audits.argmaxable.cluster import decide_clusters
from wideneck.audits.argmaxable.exact import nearest_point
from wideneck.audits.argmaxable.head import make_head
from wideneck.audits.argmaxable.self_tests import make_cloud, whitening
from wideneck.audits.argmaxable.tilt import tilt
from wideneck.audits.argmaxable.verdict import Enclosed, Found


def planted(place: float, quantum: float = 0.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """1,500 x 16 with 80 rows around one point, `place` of a typical row's distance away."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(1500, 16, generator=generator)
    away = torch.nn.functional.normalize(torch.randn(80, 16, generator=generator), dim=1)
    distance = 4 * 10 ** (-3 + 2 * torch.rand(80, 1, generator=generator))
    members = torch.randperm(1500, generator=generator)[:80].sort().values
    weight[members] = place * weight[0] + distance * away
    if quantum:
        weight[members] = (weight[members] / quantum).round() * quantum
    return weight, members


@pytest.mark.parametrize(("place", "quantum"), [(0.02, 0.0), (1.5, 0.0), (1.5, 0.01)])
def test_clusters_are_decided_as_by_the_exact_stage_row_by_row(place, quantum, monkeypatch):
    weight, members = planted(place, quantum)
    found = find_unargmaxable(weight)
    monkeypatch.setattr(search, "decide_clusters", lambda *_: {})
    alone = find_unargmaxable(weight)

    recheck(weight, None, found)
    assert found.decided_by["cluster"] > 40
    assert alone.decided_by["cluster"] == 0
    assert {e.token for e in found.unargmaxable} == {e.token for e in alone.unargmaxable}
    assert found.undecided == alone.undecided == []
    if place < 1:
        assert {e.token for e in found.unargmaxable} >= set(members.tolist())
    elif not quantum:
        assert 0 < len(found.unargmaxable) < 80


def test_no_certificate_of_a_cluster_rests_on_a_row_that_has_one():
    weight, members = planted(0.02)
    head = make_head(weight, None, torch.arange(1500), 1.0)
    cloud = make_cloud(head, whitening(head))
    barred = torch.zeros(1500, dtype=torch.bool)
    barred[::7] = True
    before = barred.clone()

    proofs = decide_clusters(head, cloud, members, barred, math.inf, None)

    enclosed = {i: proof for i, proof in proofs.items() if isinstance(proof, Enclosed)}
    assert len(enclosed) > 60
    assert set(barred.nonzero().flatten().tolist()) == set(enclosed) | set(
        before.nonzero().flatten().tolist()
    )
    for i, proof in enclosed.items():
        assert not before[proof.index].any()
        assert i not in proof.index.tolist()
        assert proof.weights.sum().item() == pytest.approx(1)
        point = proof.weights @ weight[proof.index].double()
        assert (point - weight[i].double()).abs().max() < 1e-6


@pytest.mark.parametrize("scores", [1, 4000])
def test_rows_one_by_one_or_some_at_a_time_have_the_proofs_of_all_at_once(scores, monkeypatch):
    weight, members = planted(1.5)
    head = make_head(weight, None, torch.arange(1500), 1.0)
    cloud = make_cloud(head, whitening(head))

    def decided():
        found = decide_clusters(head, cloud, members[:40], torch.zeros(1500).bool(), math.inf, None)
        return {i: type(proof) for i, proof in found.items()}

    whole = decided()
    monkeypatch.setattr(cluster, "_SCORES", scores)
    assert decided() == whole
    assert set(whole.values()) == {Enclosed, Found}


def test_no_round_begins_when_the_time_is_up():
    weight, members = planted(1.5)
    head = make_head(weight, None, torch.arange(1500), 1.0)
    cloud, barred = make_cloud(head, whitening(head)), torch.zeros(1500).bool()
    assert decide_clusters(head, cloud, members, barred, time.monotonic() - 1, None) == {}
    assert not barred.any()
    assert decide_clusters(head, cloud, members, barred, math.inf, None)


def test_rows_that_stand_alone_are_no_cluster():
    weight, _ = planted(0.02)
    head = make_head(weight, None, torch.arange(1500), 1.0)
    cloud = make_cloud(head, whitening(head))

    assert (
        decide_clusters(head, cloud, torch.arange(31), torch.zeros(1500).bool(), math.inf, None)
        == {}
    )


@pytest.mark.parametrize("seed", range(3))
def test_tilts_tell_mixtures_from_vertices(seed):
    """300 points of 12 dimensions at very different distances, against one row at a time."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(300, 12, generator=generator).double()
    points *= 10 ** (-2 * torch.rand(300, 1, generator=generator).double())

    found = tilt(points, torch.arange(300))

    head = make_head(points, None, torch.arange(300), 1.0)
    cloud = make_cloud(head, whitening(head))
    nobody = torch.zeros(300, dtype=torch.bool)
    assert len(found.mixed) + len(found.apart) >= 290
    assert len(found.mixed) > 50
    assert len(found.apart) > 50
    for i, a in zip(found.mixed.tolist(), found.weights, strict=True):
        assert (a >= 0).all()
        assert a[i] == 0
        assert a.sum().item() == pytest.approx(1)
        assert (a @ points - points[i]).abs().max() < 1e-9
    for i, x in zip(found.apart.tolist(), found.states, strict=True):
        lead = (points[i] - points) @ x
        lead[i] = math.inf
        assert (lead > 0).all()
    for i in [*found.mixed[:5].tolist(), *found.apart[:5].tolist()]:
        proof, _ = nearest_point(head, cloud, i, nobody, math.inf)
        assert isinstance(proof, Enclosed if i in found.mixed else Found)


def test_the_search_ends_and_says_what_it_left(monkeypatch):
    weight, members = planted(0.02)
    monkeypatch.setattr(search, "decide_clusters", lambda *_: {})
    monkeypatch.setattr(search, "SECONDS_IN_ALL", 0.0)

    found = find_unargmaxable(weight)

    left = {entry.token for entry in found.undecided}
    assert left >= set(members.tolist())
    assert found.unargmaxable == []
    assert sum(found.decided_by.values()) + len(left) == found.num_distinct
