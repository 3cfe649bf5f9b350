"""What the steps of an epoch are given: everything once, and the same however it is come by."""

import numpy as np
import pytest
import torch

from wideneck.errors import WideneckError
from wideneck.training.batches import Rows, Segments, WindowBatches
from wideneck.training.recipe import Schedule

B, N = 4, 1003
IDS = torch.arange(N)  # each token tells its place
ROW = N // B


def schedule(**options):
    return Schedule(**{"batch_size": B, "segment": 20, **options})


def of(order):
    return [order.batch(i) for i in range(len(order))]


def of_kind(kind, seed=0, share=(0, 1), **options):
    if kind == "segments":
        return Segments(IDS, schedule(**options), seed, share)
    if kind == "windows":
        return WindowBatches(IDS, 16, schedule(**options), seed, share)
    hidden = torch.randn(N, 3, generator=torch.Generator().manual_seed(1))
    return Rows(hidden, IDS, schedule(**options), seed, share)


KINDS = ("segments", "windows", "rows")


@pytest.mark.parametrize("varied", [True, False])
@pytest.mark.parametrize("epoch", [0, 1])
def test_segments_hold_every_prediction_of_the_rows_once_and_in_order(varied, epoch):
    batches = Segments(IDS, schedule(varied=varied), seed=0)
    found = of(batches.order(epoch))
    rows = IDS[: B * ROW].view(B, ROW)
    assert torch.equal(torch.cat([b.input for b in found], 1), rows[:, :-1])
    assert torch.equal(torch.cat([b.target for b in found], 1), rows[:, 1:])
    assert sum(b.num_tokens for b in found) == batches.tokens_per_epoch == B * (ROW - 1)
    assert [b.fresh for b in found] == [True] + [False] * (len(found) - 1)
    assert all(b.num_tokens == b.target.numel() for b in found)
    assert all(b.share == b.target.shape[1] / 20 for b in found)


def test_segments_that_are_not_varied_have_their_length_but_for_the_last():
    lengths = [b.input.shape[1] for b in of(of_kind("segments", varied=False).order(0))]
    assert lengths[:-1] == [20] * (len(lengths) - 1)
    assert 0 < lengths[-1] <= 20


def drawn_lengths(num_epochs, **options):
    """Lengths as they were drawn: without the last of an epoch, which the end of the text cuts."""
    long = Segments(torch.zeros(40_000).long(), Schedule(batch_size=1, segment=70, **options), 5)
    orders = [long.order(epoch).drawn for epoch in range(num_epochs)]
    return np.concatenate([np.diff(bounds)[:-1] for bounds in orders])


def awd_lstm_lm_lengths(count):
    """As salesforce/awd-lstm-lm draws them."""
    random = np.random.default_rng(0)
    usual = random.random(count) < 0.95
    drawn = random.normal(np.where(usual, 70, 35), 5)
    return np.maximum(5, drawn.astype(int))


def test_lengths_of_segments_are_distributed_as_those_of_awd_lstm_lm():
    ours, theirs = drawn_lengths(40), awd_lstm_lm_lengths(100_000)
    assert len(ours) > 20_000
    at = np.arange(5, 110)
    cdfs = [(lengths[:, None] <= at).mean(0) for lengths in (ours, theirs)]
    # Kolmogorov-Smirnov: at n = 20,000 against 100,000 equals differ by 0.0151 once in 1,000.
    assert np.abs(cdfs[0] - cdfs[1]).max() < 0.0151


def test_segments_are_no_longer_than_the_recipe_says():
    assert drawn_lengths(2, longest=3).max() == 73
    assert drawn_lengths(2, longest=0).max() == 70
    assert drawn_lengths(2).max() > 80


def test_short_segments_have_five_tokens_at_least():
    batches = Segments(IDS, schedule(segment=2), seed=0)
    assert min(np.diff(batches.order(0).drawn)[:-1]) == 5


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_windows_of_an_epoch_are_apart_and_at_one_phase(epoch):
    batches = of_kind("windows")
    starts = batches.order(epoch).drawn
    assert starts.unique().numel() == len(starts) == (N - 1) // 16 - 1
    assert set((starts % 16).tolist()) == {int(starts[0] % 16)}
    assert int(starts.min()) >= 0
    assert int(starts.max()) + 16 < N
    found = of(batches.order(epoch))
    assert len(found) == len(starts) // B
    seen = torch.cat([b.input for b in found])
    assert torch.equal(seen[:, 0], starts[: len(seen)])
    assert torch.equal(seen, seen[:, :1] + torch.arange(16))
    assert torch.equal(torch.cat([b.target for b in found]), seen + 1)
    assert batches.tokens_per_epoch == seen.numel() == sum(b.num_tokens for b in found)
    assert all(b.fresh and b.share == 1 for b in found)


def test_windows_come_at_many_phases_and_in_many_orders():
    orders = [of_kind("windows").order(epoch).drawn for epoch in range(40)]
    assert len({int(starts[0] % 16) for starts in orders}) > 10
    assert len({tuple((starts // 16).tolist()) for starts in orders}) == 40


def test_rows_of_an_epoch_are_a_permutation_of_the_states():
    batches = of_kind("rows", batch_size=17)
    found = of(batches.order(3))
    seen = torch.cat([b.target for b in found])
    assert seen.unique().numel() == len(seen) == batches.tokens_per_epoch == N // 17 * 17
    assert torch.equal(torch.cat([b.input for b in found]), batches.hidden[seen])
    other = torch.cat([b.target for b in of(batches.order(4))])
    assert not torch.equal(seen, other)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_depends_on_seed_epoch_and_number_alone(kind):
    batches = of_kind(kind, seed=7)
    before = of(batches.order(2))
    of_kind(kind, seed=8).order(2)
    torch.rand(5)
    again = of_kind(kind, seed=7).order(2)
    assert len(again) == len(before)
    for index in reversed(range(len(again))):
        one = again.batch(index)
        assert torch.equal(one.input, before[index].input)
        assert torch.equal(one.target, before[index].target)


@pytest.mark.parametrize("kind", KINDS)
def test_epochs_and_seeds_differ(kind):
    def first(seed, epoch):
        return of_kind(kind, seed=seed).order(epoch).batch(0).target.flatten().tolist()

    found = [first(seed, epoch) for seed in (0, 1, 2) for epoch in (0, 1, 2)]
    assert len({tuple(x) for x in found}) >= 7  # two segments may have one length


@pytest.mark.parametrize("kind", KINDS)
def test_processes_share_the_rows_of_every_batch(kind):
    whole = of(of_kind(kind).order(1))
    shares = [of(of_kind(kind, share=(rank, 2)).order(1)) for rank in range(2)]
    assert len(whole) == len(shares[0]) == len(shares[1])
    for batch, *parts in zip(whole, *shares, strict=True):
        assert torch.equal(torch.cat([p.input for p in parts]), batch.input)
        assert torch.equal(torch.cat([p.target for p in parts]), batch.target)
        assert {len(p.target) for p in parts} == {B // 2}
        assert {p.num_tokens for p in parts} == {batch.num_tokens}
        assert {(p.fresh, p.share) for p in parts} == {(batch.fresh, batch.share)}


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_processes_cannot_share_evenly_are_refused(kind):
    with pytest.raises(WideneckError, match="batch_size a multiple of 3"):
        of_kind(kind, share=(0, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_larger_than_the_text_is_refused(kind):
    with pytest.raises(WideneckError, match=r"smaller batch_size"):
        of_kind(kind, batch_size=600 if kind == "segments" else 2000)


def test_a_text_shorter_than_a_window_is_refused():
    with pytest.raises(WideneckError, match="1,003 tokens, too few for 1 windows of 1003"):
        WindowBatches(IDS, 1003, schedule(batch_size=1), seed=0)
    assert len(WindowBatches(IDS, 1002, schedule(batch_size=1), seed=0).order(0)) == 1
