"""Heads and widths over seeds, against sums written out on losses that are made up."""

import statistics

import pytest
import torch

from wideneck.audits.estimate import Estimate, estimate
from wideneck.audits.output.rank_cost import RankCost, RankLoss
from wideneck.lab.saturation.arms import head_arms
from wideneck.lab.saturation.family import Checkpoint, FamilyRun, Measured
from wideneck.lab.saturation.heads_run import HeadRun
from wideneck.lab.saturation.truncated import Truncated
from wideneck.lab.saturation.widths import loss_rows, summarize

DOCUMENT = [0, 0, 1, 2]
SEEDS = (0, 1, 2)
RANKS = [2, 4, 8]


def head(rank, start, seed):
    generator = torch.Generator().manual_seed(100 * rank + 10 * len(start) + seed)
    first, nearly, last = (2 + torch.rand(3, 4, generator=generator, dtype=torch.float64)).tolist()
    return HeadRun(
        rank=rank,
        start=start,
        seed=seed,
        num_parameters=1,
        learning_rate=0.1 * rank,
        first=first,
        nearly_last=nearly,
        last=last,
        train_loss=[3.0],
        num_steps=10,
        tokens=100,
        seconds=1.0,
        versions={},
    )


def truncated():
    some = Estimate(
        value=0.0, low=None, high=None, over="documents", num_groups=1, effective_groups=1.0
    )
    points = [
        RankLoss(rank=r, method=m, measured=some, first_order=0.0, fisher=0.0, predicted=p)
        for m, scale in (("plain", 100.0), ("whitened", 1.0))
        for r in RANKS[:2]
        for p in (scale * r,)
    ]
    return Truncated(
        model="m",
        vocab_size=50,
        hidden_size=8,
        document=DOCUMENT,
        w_error=[0.9, 0.5, 0.0],
        w_error_centred=[0.8, 0.4, 0.0],
        ranks=RANKS,
        cost=RankCost(num_fit_tokens=1, num_test_tokens=1, points=points, skipped=""),
    )


@pytest.fixture(scope="module")
def runs():
    heads = [(rank, start) for start in ("whitened", "random") for rank in RANKS] + [(8, "own")]
    return {(rank, start, seed): head(rank, start, seed) for seed in SEEDS for rank, start in heads}


@pytest.fixture(scope="module")
def arms(runs):
    return {(a.rank, a.start): a for a in head_arms(list(runs.values()), truncated())}


def test_arms_come_by_start_and_rank_with_the_softmax_last(arms):
    assert list(arms) == [
        *((rank, "whitened") for rank in RANKS),
        *((rank, "random") for rank in RANKS),
        (8, "own"),
    ]


@pytest.mark.parametrize(
    ("rank", "start"), [(2, "whitened"), (8, "whitened"), (4, "random"), (8, "own")]
)
def test_every_difference_is_taken_seed_by_seed_and_window_by_window(arms, runs, rank, start):
    arm, windows = arms[rank, start], range(len(DOCUMENT))
    mine = [runs[rank, start, seed] for seed in SEEDS]
    full = [runs[8, "own", seed] for seed in SEEDS]
    untouched = runs[8, "own", 0].first

    def mean(value):
        return statistics.fmean(value(seed, w) for seed in SEEDS for w in windows)

    assert arm.num_seeds == 3
    assert arm.first.value == pytest.approx(mean(lambda s, w: mine[s].first[w]))
    assert arm.trained.value == pytest.approx(mean(lambda s, w: mine[s].last[w]))
    assert arm.first_gap.value == pytest.approx(mean(lambda s, w: mine[s].first[w] - untouched[w]))
    assert arm.trained_gap.value == pytest.approx(mean(lambda s, w: mine[s].last[w] - untouched[w]))
    assert arm.slope == pytest.approx(mean(lambda s, w: mine[s].last[w] - mine[s].nearly_last[w]))
    gaps = [[mine[s].last[w] - full[s].last[w] for w in windows] for s in SEEDS]
    per_seed = [statistics.fmean(gap) for gap in gaps]
    assert arm.over_seeds.mean == pytest.approx(statistics.fmean(per_seed))
    assert arm.over_seeds.std == pytest.approx(statistics.stdev(per_seed))
    per_window = [statistics.fmean(gap[w] for gap in gaps) for w in windows]
    over_documents = estimate(torch.tensor(per_window)[:, None], torch.tensor(DOCUMENT))
    for name in ("value", "low", "high"):
        expected = getattr(over_documents, name)
        assert getattr(arm.full_gap, name) == pytest.approx(expected, abs=1e-6)
    assert (arm.full_gap.over, arm.full_gap.num_groups) == ("documents", 3)


def test_an_arm_has_the_cut_of_its_own_rank(arms):
    for (rank, start), arm in arms.items():
        place = RANKS.index(rank)
        assert arm.share == rank / 8
        assert arm.w_error == [0.9, 0.5, 0.0][place]
        assert arm.w_error_centred == [0.8, 0.4, 0.0][place]
        assert arm.learning_rate == pytest.approx(0.1 * rank)
        if rank == 8:
            assert arm.plain is arm.whitened is None
        else:
            assert (arm.plain.predicted, arm.whitened.predicted) == (100 * rank, rank)
        assert start != "own" or arm.full_gap.value == 0


def checkpoint(step, loss, entropy):
    names = Checkpoint.__dataclass_fields__
    rest = {name: 1000 * k + step for k, name in enumerate(names)}
    return Checkpoint(**rest | {"step": step, "loss": loss, "kl_sigma2": entropy})


def family(seed, losses, trains, entropies, width=16):
    return FamilyRun(
        width=width,
        seed=seed,
        num_parameters=1000,
        num_embedding_parameters=600,
        learning_rate=1e-3,
        measured=[
            Measured(epoch=0.1 * s, train_loss=train, checkpoint=checkpoint(s, loss, entropy))
            for s, (loss, train, entropy) in enumerate(zip(losses, trains, entropies, strict=True))
        ],
        tokens=1000,
        epochs=1.0,
        tokens_per_second=10.0 + seed,
        seconds=1.0,
        versions={},
    )


RUNS = [
    family(0, [9.0, 3.0, 2.0, 2.5], [9.0, 2.9, 1.9, 1.5], [0.0, 0.9, 0.3, 1.0]),
    family(1, [9.0, 3.0, 3.5, 3.8], [9.0, 2.8, 2.0, 1.0], [0.0, 0.2, 0.4, 1.4]),
    family(0, [9.0, 5.0, 4.0, 3.0], [9.0, 5.0, 4.0, 3.5], [0.0, 0.5, 0.6, 0.7], width=8),
]


def test_a_rise_and_what_the_training_loss_does_meanwhile_are_taken_seed_by_seed():
    narrow, wide = summarize(RUNS)
    assert (narrow.width, wide.width) == (8, 16)
    assert wide.rise.mean == pytest.approx((0.5 + 0.8) / 2)
    assert wide.rise.std == pytest.approx(statistics.stdev([0.5, 0.8]))
    # Training loss at the lowest held-out loss less the last: it fell, in either seed.
    assert wide.train_fall.mean == pytest.approx((0.4 + 1.8) / 2)
    assert wide.train_fall.std == pytest.approx(statistics.stdev([0.4, 1.8]))
    assert (narrow.rise.mean, narrow.train_fall.mean) == (0, 0)


def test_figures_are_of_the_best_the_lowest_entropy_or_the_last_measurement():
    (_, wide), runs = summarize(RUNS), RUNS[:2]
    best, lowest = (2, 1), (2, 1)  # by seed; the untrained model is no lowest entropy
    expected = {
        "best_loss": [2.0, 3.0],
        "best_step": list(best),
        "best_train_loss": [1.9, 2.8],
        "final_loss": [2.5, 3.8],
        "final_train_loss": [1.5, 1.0],
        "kl_sigma2_lowest": [0.3, 0.2],
        "kl_sigma2_lowest_step": list(lowest),
        "kl_sigma2_best": [0.3, 0.2],
        "kl_sigma2": [1.0, 1.4],
        "tokens_per_second": [10.0, 11.0],
    }
    last = ("kl_sigma2_share", "kl_sigma2_centred", "second_value", "second_value_centred")
    for name in (*last, "mean_row_share", "anisotropy", "anisotropy_centred"):
        expected[name] = [getattr(run.measured[-1].checkpoint, name) for run in runs]
    expected["anisotropy_best"] = [
        run.measured[at].checkpoint.anisotropy for run, at in zip(runs, best, strict=True)
    ]
    assert wide.figures.keys() == expected.keys()
    for name, values in expected.items():
        assert wide.figures[name].mean == pytest.approx(statistics.fmean(values)), name


def test_a_law_is_fitted_on_the_lowest_losses_and_the_final_ones_stand_beside():
    rows = loss_rows(summarize(RUNS), 77)
    assert [(row.name, row.fitted, row.loss) for row in rows] == [
        ("d = 8, best", True, 3.0),
        ("d = 16, best", True, pytest.approx(2.5)),
        ("d = 8, final", False, 3.0),
        ("d = 16, final", False, pytest.approx(3.15)),
    ]
    assert {(row.num_parameters, row.num_embedding_parameters, row.tokens) for row in rows} == {
        (1000, 600, 77)
    }
