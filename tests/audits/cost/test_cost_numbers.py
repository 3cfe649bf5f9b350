"""What section "cost" computes, against dense float64 computations and planted cases."""

import math

import pytest
import torch

from audits.cost.cost_examples import IDENTITY, D, V, layer, slow, states, wide
from wideneck.audits.cost import predicting
from wideneck.audits.cost.cheaper import Cheaper, dense, low_rank
from wideneck.audits.cost.choosing import check_limit
from wideneck.audits.cost.dither import dithered
from wideneck.audits.cost.measuring import apart
from wideneck.audits.cost.predicting import from_moments, from_noise, noise_weights
from wideneck.audits.cost.trims import trims
from wideneck.audits.output.layer import OutputLayer
from wideneck.data.counts import ranges
from wideneck.errors import WideneckError
from wideneck.models import LogitMap
from wideneck.rounding.formats import FORMATS


@pytest.mark.parametrize(
    ("cap", "size"), [(None, 1e-3), (None, 0.3), (None, 30.0), (5.0, 1e-3), (5.0, 0.3)]
)
def test_every_number_of_a_token_is_that_of_the_dense_distributions(cap, size):
    head, text = layer(cap), states()
    hidden, targets = text.hidden.flatten(0, 1), text.targets.flatten()
    other = head.weight + size * torch.randn(V, D, generator=torch.Generator().manual_seed(2))
    [found] = apart(head, [dense(head, other)], hidden, targets)
    twin = OutputLayer(other.double(), wide(head).bias, head.logit_map)
    for name, value in slow(wide(head), twin.logits, hidden, targets).items():
        torch.testing.assert_close(getattr(found, name), value, rtol=2e-3, atol=2e-6)


def test_a_divergence_far_below_the_rounding_of_a_loss_is_seen():
    head, text = layer(), states()
    hidden, targets = text.hidden.flatten(0, 1), text.targets.flatten()
    other = head.weight * (1 + 2.0**-14)  # exact in float32
    [found] = apart(head, [dense(head, other)], hidden, targets)
    twin = OutputLayer(other.double(), wide(head).bias, IDENTITY)
    expected = slow(wide(head), twin.logits, hidden, targets)["kl"].mean()
    assert 1e-10 < expected < 1e-8
    assert found.kl.mean() == pytest.approx(expected.item(), rel=0.01)


def test_the_head_itself_costs_nothing_and_a_shift_neither():
    head, text = layer(), states()
    hidden, targets = text.hidden.flatten(0, 1), text.targets.flatten()
    shifted = head.weight + torch.randn(D, generator=torch.Generator().manual_seed(3))
    same, moved = apart(head, [dense(head, head.weight), dense(head, shifted)], hidden, targets)
    assert same.kl.abs().max() == 0
    assert same.acceptance.min() == 1
    assert same.same.all()
    assert moved.kl.abs().max() < 1e-9
    assert moved.nats.abs().max() < 1e-4


def test_noise_of_known_variance_costs_what_all_three_predict():
    """Independent Gaussian errors: KL = 1/2 E sum p (1 - p) v |x|^2 up to third order."""
    head, text = layer(bias=False), states(windows=16)
    hidden, targets = text.hidden.flatten(0, 1), text.targets.flatten()
    error = 0.02 * torch.randn(V, D, generator=torch.Generator().manual_seed(4))
    other = head.weight + error
    [found] = apart(head, [dense(head, other)], hidden, targets)
    measured = found.kl.mean().item()
    assert found.half_variance.mean().item() == pytest.approx(measured, rel=0.02)
    variance = torch.full((V, D), 0.02**2)
    assert from_noise(noise_weights(head, hidden), variance) == pytest.approx(measured, rel=0.1)
    p = head.logits(hidden).softmax(1).double()
    moment = hidden.double().T @ hidden.double() / len(hidden)
    moments = from_moments(head.weight, lambda rows: other[rows], p.mean(0), moment, 1.0)
    flat = moments * (1 - p.square().sum(1).mean().item())
    assert flat == pytest.approx(measured, rel=0.25)


@pytest.mark.parametrize("map", [LogitMap("scale", 0.5), LogitMap("softcap", 1.0, 4.0)])
def test_predictions_go_through_the_map_of_the_logits(map):
    head = OutputLayer(layer().weight, None, map)
    text = states(windows=16)
    hidden, targets = text.hidden.flatten(0, 1), text.targets.flatten()
    other = head.weight + 0.02 * torch.randn(V, D, generator=torch.Generator().manual_seed(5))
    [found] = apart(head, [dense(head, other)], hidden, targets)
    noise = from_noise(noise_weights(head, hidden), torch.full((V, D), 0.02**2))
    assert noise == pytest.approx(found.kl.mean().item(), rel=0.1)


def test_moments_are_a_sum_over_rows(monkeypatch):
    monkeypatch.setattr(predicting, "ROWS", 50)  # several chunks
    g = torch.Generator().manual_seed(6)
    weight, other = torch.randn(V, D, generator=g), torch.randn(V, D, generator=g)
    prediction = torch.rand(V, generator=g).double()
    root = torch.randn(D, D, generator=g).double()
    moment = root @ root.T
    expected = sum(
        prediction[i].item()
        * float((other - weight)[i].double() @ moment @ (other - weight)[i].double())
        for i in range(V)
    )
    found = from_moments(weight, lambda rows: other[rows], prediction, moment, 3.0)
    assert found == pytest.approx(9 * expected / 2, rel=1e-5)


def test_a_low_rank_head_of_all_ranks_is_the_head():
    head, text = layer(), states()
    u, s, v = torch.linalg.svd(head.weight - head.weight.mean(0), full_matrices=False)
    cheap = low_rank(head, u * s, v, head.weight.mean(0))
    x = text.hidden.flatten(0, 1)
    torch.testing.assert_close(cheap.logits(x, x), head.logits(x), rtol=1e-4, atol=1e-4)
    assert cheap.rows is not None
    torch.testing.assert_close(cheap.rows(slice(3, 9)), head.weight[3:9], rtol=1e-4, atol=1e-4)


def test_a_trimmed_draft_is_accepted_with_what_is_not_missing():
    """Sum of min(p, q) with q = p / (1 - missing) on the rows that stay."""
    head, text = layer(), states()
    counts = torch.randint(5, (V,), generator=torch.Generator().manual_seed(7))
    special = [V - 1, 5, 10**6]  # one of them is of a tokenizer with more ids than rows
    order = sorted(range(V), key=lambda i: (i not in special, -int(counts[i]), i))
    p = head.logits(text.hidden.flatten(0, 1)).softmax(1).double()
    found = trims(head, text.hidden, text.targets, text.document, counts, special)
    assert [trim.num_rows for trim in found] == [96, 48, 24, 12]
    for trim in found:
        kept = torch.zeros(V, dtype=torch.bool)
        kept[order[: trim.num_rows]] = True
        missing = p[:, ~kept].sum(1)
        q = torch.where(kept, p / (1 - missing[:, None]), 0)
        assert trim.missing.value == pytest.approx(missing.mean().item(), rel=1e-5)
        accepted = torch.minimum(p, q).sum(1)
        torch.testing.assert_close(accepted, 1 - missing, rtol=1e-5, atol=1e-6)
        gone = (~kept)[text.targets].double().mean().item()
        assert trim.missing_targets.value == pytest.approx(gone)
        assert trim.num_bytes == 2 * D * trim.num_rows


def test_counts_sort_the_targets():
    counts = torch.tensor([[0, 1, 9, 10, 99, 1000]])
    found = {name: mask.sum().item() for name, mask in ranges(counts, (0, 1, 10, 100, 1000))}
    assert found == {"0": 1, "1 to 9": 2, "10 to 99": 2, "1,000 or more": 1}


@pytest.mark.parametrize("limit", [0.0, -1.0, math.inf, math.nan])
def test_a_limit_that_is_none_is_refused(limit):
    with pytest.raises(WideneckError, match="above 0"):
        check_limit(limit)


def test_a_head_stored_rounded_is_moved_within_its_steps():
    head, text = layer(), states()
    stored = FORMATS["Q8_0"].rounded(head.weight)
    rounded = OutputLayer(stored, head.bias, IDENTITY)
    notes = []
    found = {
        one.name: one.kl.value
        for one in dithered(rounded, text.hidden, text.document, "Q8_0", 0, notes)
    }
    [again] = apart(
        rounded,
        [dense(rounded, FORMATS["Q8_0"].rounded(stored))],
        text.hidden.flatten(0, 1),
        text.targets.flatten(),
    )
    assert again.kl.mean() < 1e-9  # the trap: rounded again, nothing changes
    original = apart(
        head, [dense(head, stored)], text.hidden.flatten(0, 1), text.targets.flatten()
    )[0].kl.mean()
    assert found["Q8_0"] == pytest.approx(original.item(), rel=0.25)
    assert len(notes) == 1
    assert dithered(head, text.hidden, text.document, "float32", 0, notes) == []


@pytest.mark.parametrize("stored", ["NVFP4", "nf4", "MXFP4", "int4"])
def test_a_format_without_steps_promises_no_dither(stored):
    """Codes of a table have no step to move within."""
    notes = []
    head, text = layer(), states()
    assert dithered(head, text.hidden, text.document, stored, 0, notes) == []
    [said] = notes
    assert f"stored as {stored}:" in said
    assert "dithered" not in said


def test_cheaper_logits_may_be_anything():
    head, text = layer(), states()
    hidden, targets = text.hidden.flatten(0, 1), text.targets.flatten()
    uniform = Cheaper(lambda x, z: torch.zeros_like(z), None)
    [found] = apart(head, [uniform], hidden, targets)
    p = head.logits(hidden).double().log_softmax(1)
    entropy = -(p.exp() * p).sum(1)
    torch.testing.assert_close(found.kl, math.log(V) - entropy, rtol=1e-4, atol=1e-5)


def test_a_low_rank_head_goes_through_the_map_of_the_logits():
    head, text = layer(cap=3.0), states()
    u, s, v = torch.linalg.svd(head.weight - head.weight.mean(0), full_matrices=False)
    cheap = low_rank(head, u * s, v, head.weight.mean(0))
    x = text.hidden.flatten(0, 1)
    torch.testing.assert_close(cheap.logits(x, x), head.logits(x), rtol=1e-4, atol=1e-4)


def test_a_trim_keeps_the_most_probable_token_where_it_stays():
    head, text = layer(), states()
    counts = torch.randint(5, (V,), generator=torch.Generator().manual_seed(7))
    top = head.logits(text.hidden.flatten(0, 1)).argmax(1)
    order = sorted(range(V), key=lambda i: (-int(counts[i]), i))
    for trim in trims(head, text.hidden, text.targets, text.document, counts):
        kept = torch.isin(top, torch.tensor(order[: trim.num_rows])).double().mean().item()
        assert trim.top1.value == pytest.approx(kept)
        assert trim.share == trim.num_rows / V
