"""Section "cost" against dense float64 computations, and what theory says of planted cases."""

import math
from itertools import pairwise

import pytest
import torch

from wideneck.audits.clock import Clock
from wideneck.audits.cost.cheaper import Cheaper, dense, low_rank
from wideneck.audits.cost.choosing import check_limit, chosen
from wideneck.audits.cost.dither import dithered
from wideneck.audits.cost.measuring import apart
from wideneck.audits.cost.predicting import from_moments, from_noise
from wideneck.audits.cost.section import audit_cost
from wideneck.audits.cost.trims import trims
from wideneck.audits.measured import UnmeasurableError
from wideneck.audits.output.layer import OutputLayer
from wideneck.audits.states import HiddenStates
from wideneck.data.counts import ranges
from wideneck.errors import WideneckError
from wideneck.models import LogitMap
from wideneck.rounding.formats import FORMATS

V, D, W, T = 192, 64, 8, 40
IDENTITY = LogitMap("identity")


def layer(cap=None, scale=1.0, bias=True):
    g = torch.Generator().manual_seed(0)
    kind = "identity" if cap is None and scale == 1 else "softcap" if cap else "scale"
    return OutputLayer(
        torch.randn(V, D, generator=g),
        torch.randn(V, generator=g) if bias else None,
        LogitMap(kind, scale, cap),
    )


def states(windows=W, num_documents=4):
    g = torch.Generator().manual_seed(1)
    return HiddenStates(
        hidden=torch.randn(windows, T, D, generator=g) * 0.3,
        targets=torch.randint(V, (windows, T), generator=g),
        document=torch.arange(windows) % num_documents,
        num_bytes=torch.full((windows,), 4 * T),
        anisotropy=[],
        last_logits=torch.empty(0),
    )


def slow(head, cheap, hidden, targets):
    """Every field of `Apart`, in float64 from log-probabilities."""
    z, other = head.logits(hidden.double()), cheap(hidden.double())
    p, q = z.log_softmax(1), other.log_softmax(1)
    y = targets[:, None]
    change = other - z
    mean = (p.exp() * change).sum(1, keepdim=True)
    return {
        "kl": (p.exp() * (p - q)).sum(1),
        "nats": (p.gather(1, y) - q.gather(1, y))[:, 0],
        "same": (p.argmax(1) == q.argmax(1)).double(),
        "acceptance": torch.minimum(p.exp(), q.exp()).sum(1),
        "half_variance": (p.exp() * (change - mean) ** 2).sum(1) / 2,
        "probability": (q.gather(1, y).exp() - p.gather(1, y).exp())[:, 0],
    }


def wide(head):
    bias = None if head.bias is None else head.bias.double()
    return OutputLayer(head.weight.double(), bias, head.logit_map)


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
    assert from_noise(head, variance, hidden) == pytest.approx(measured, rel=0.1)
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
    noise = from_noise(head, torch.full((V, D), 0.02**2), hidden)
    assert noise == pytest.approx(found.kl.mean().item(), rel=0.1)


def test_moments_are_a_sum_over_rows():
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
    order = sorted(range(V), key=lambda i: (-int(counts[i]), i))
    p = head.logits(text.hidden.flatten(0, 1)).softmax(1).double()
    for trim in trims(head, text.hidden, text.targets, text.document, counts):
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


def found_of(head=None, text=None, **options):
    head = layer() if head is None else head
    counts = torch.arange(V)
    return audit_cost(
        head, states() if text is None else text, counts, stored="float32", clock=Clock(), **options
    )


@pytest.fixture(scope="module")
def whole():
    return found_of(text=states(windows=16), limit=0.01)


def test_every_kind_is_measured_on_the_half_that_nothing_was_fitted_on(whole):
    text = states(windows=16)
    assert whole.num_fit_tokens == whole.num_tokens == 8 * T
    head = layer()
    measured = torch.isin(text.document, torch.tensor([1, 3]))
    hidden, targets = text.hidden[measured].flatten(0, 1), text.targets[measured].flatten()
    for kind in whole.kinds:
        if kind.sort == "format":
            [one] = apart(
                head, [dense(head, FORMATS[kind.name].rounded(head.weight))], hidden, targets
            )
            assert kind.kl.value == pytest.approx(one.kl.mean().item(), rel=1e-6)
            assert kind.num_bytes == FORMATS[kind.name].num_bytes(V, D)
    assert {kind.sort for kind in whole.kinds} == {
        "format",
        "better",
        "shifted",
        "low rank",
        "logits",
    }


def test_fitted_codes_cost_less_and_more_rank_too(whole):
    kl = {kind.name: kind.kl.value for kind in whole.kinds}
    assert kl["Q4_0, GPTQ"] < kl["Q4_0"]
    ranks = [kind for kind in whole.kinds if kind.sort == "low rank" and "bf16" in kind.name]
    assert len(ranks) == 3
    assert all(a.kl.value > b.kl.value for a, b in pairwise(ranks))
    assert all(a.num_bytes < b.num_bytes for a, b in pairwise(ranks))


def test_counts_sort_the_targets():
    counts = torch.tensor([[0, 1, 9, 10, 99, 5000]])
    found = {name: mask.sum().item() for name, mask in ranges(counts, (0, 1, 10, 100, 1000))}
    assert found == {"0": 1, "1 to 9": 2, "10 to 99": 2, "1,000 or more": 1}


def test_numbers_by_count_average_to_the_whole(whole):
    for kind in whole.kinds:
        total = sum(part.num_tokens * part.kl for part in kind.by_count)
        assert total / whole.num_tokens == pytest.approx(kind.kl.value, rel=1e-9)
        accepted = sum(part.num_tokens * part.acceptance for part in kind.by_count)
        assert accepted / whole.num_tokens == pytest.approx(kind.acceptance.value, rel=1e-9)
        same = sum(part.num_tokens * part.top1 for part in kind.by_count)
        assert same / whole.num_tokens == pytest.approx(kind.top1.value, rel=1e-9)
        assert math.fsum(part.num_tokens for part in kind.by_count) == whole.num_tokens


def test_a_limit_chooses_the_smallest_kind_within_it(whole):
    sizes = [k for k in whole.kinds if k.sort in ("format", "better", "low rank")]
    smallest = min((k for k in sizes if k.kl.value <= 0.01), key=lambda k: k.num_bytes)
    assert whole.choice.name == smallest.name
    none = chosen(whole.kinds, 1e-12)
    assert none.name is None
    assert none.nearest == min(sizes, key=lambda k: k.kl.value).name


@pytest.mark.parametrize("limit", [0.0, -1.0, math.inf, math.nan])
def test_a_limit_that_is_none_is_refused(limit):
    with pytest.raises(WideneckError, match="above 0"):
        check_limit(limit)


def test_few_tokens_leave_out_what_must_be_fitted_and_say_so():
    found = found_of(text=states(windows=2))
    assert not [kind for kind in found.kinds if kind.sort in ("low rank", "better")]
    assert any("fewer than twice the hidden size" in note for note in found.notes)


def test_one_window_cannot_be_measured():
    with pytest.raises(UnmeasurableError, match="one window"):
        found_of(text=states(windows=1, num_documents=1))


def test_a_cap_sees_a_shift_so_none_is_offered():
    found = found_of(layer(cap=20.0), states(windows=16))
    assert not [kind for kind in found.kinds if kind.sort == "shifted"]
    assert any("cap" in note for note in found.notes)
    assert all(kind.predicted.moments is None for kind in found.kinds)


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


def test_what_a_kind_sums_up_is_that_of_its_tokens(whole):
    """Quantiles of sizes, a root mean square, and moments of the other half with their factor."""
    head, text = layer(), states(windows=16)
    fit = torch.isin(text.document, torch.tensor([0, 2]))
    hidden, targets = text.hidden[~fit].flatten(0, 1), text.targets[~fit].flatten()
    other = FORMATS["Q4_0"].rounded(head.weight)
    [kind] = [kind for kind in whole.kinds if kind.name == "Q4_0"]
    twin = OutputLayer(other.double(), wide(head).bias, IDENTITY)
    dense64 = slow(wide(head), twin.logits, hidden, targets)
    sizes = sorted(dense64["nats"].abs().tolist())
    assert kind.changes.largest == pytest.approx(sizes[-1], rel=1e-4)
    assert kind.changes.half == pytest.approx(sum(sizes[len(sizes) // 2 - 1 :][:2]) / 2, rel=1e-3)
    rms = dense64["probability"].square().mean().sqrt().item()
    assert kind.rms_probability == pytest.approx(rms, rel=1e-3)
    fitted = text.hidden[fit].flatten(0, 1).double()
    prediction = wide(head).logits(fitted).softmax(1).mean(0)
    p = wide(head).logits(hidden.double()).softmax(1)
    change = (other - head.weight).double()
    expected = (prediction * ((change @ (fitted.T @ fitted)) * change).sum(1)).sum() / len(fitted)
    expected *= (1 - p.square().sum(1).mean()) / 2
    assert kind.predicted.moments == pytest.approx(expected.item(), rel=1e-4)
    assert kind.predicted.change == pytest.approx(dense64["half_variance"].mean().item(), rel=1e-3)


def test_noise_of_a_format_is_averaged_over_tokens_of_every_position(whole):
    """As many as there are here: all of them."""
    head, text = layer(), states(windows=16)
    measured = torch.isin(text.document, torch.tensor([1, 3]))
    hidden = text.hidden[measured].flatten(0, 1)
    some = torch.linspace(0, len(hidden) - 1, 257).long()
    assert len({int(i) % T for i in some}) == T
    variance = FORMATS["int8 row"].variance(head.weight)
    assert variance is not None
    [kind] = [kind for kind in whole.kinds if kind.name == "int8 row"]
    assert kind.predicted.noise == pytest.approx(from_noise(head, variance, hidden[some]), rel=1e-6)


def test_what_is_shifted_is_put_back(whole):
    head = layer()
    [kind] = [kind for kind in whole.kinds if kind.name == "Q4_0, less uniform mean row"]
    [plain] = [kind for kind in whole.kinds if kind.name == "Q4_0"]
    shift = head.weight.mean(0)
    other = FORMATS["Q4_0"].rounded(head.weight - shift) + shift
    text = states(windows=16)
    measured = torch.isin(text.document, torch.tensor([1, 3]))
    hidden, targets = text.hidden[measured].flatten(0, 1), text.targets[measured].flatten()
    [one] = apart(head, [dense(head, other)], hidden, targets)
    assert kind.kl.value == pytest.approx(one.kl.mean().item(), rel=1e-4)
    assert kind.num_bytes == plain.num_bytes
    assert any("pi" in kind.name for kind in whole.kinds)


def test_bytes_of_a_low_rank_head_are_those_of_both_factors_and_the_mean_row(whole):
    [kind] = [kind for kind in whole.kinds if kind.name == f"rank {D // 2}, bf16"]
    assert kind.num_bytes == 2 * (V + D) * (D // 2) + 4 * D


def test_of_rounded_logits_and_of_rounded_operands_each_is_that(whole):
    head, text = layer(), states(windows=16)
    measured = torch.isin(text.document, torch.tensor([1, 3]))
    hidden, targets = text.hidden[measured].flatten(0, 1), text.targets[measured].flatten()
    logits = head.logits(hidden).bfloat16().double()
    x, w = hidden.bfloat16().double(), head.weight.bfloat16().double()
    operands = x @ w.T + head.bias.double()
    kl = {kind.name: kind.kl.value for kind in whole.kinds}
    for name, z in (("bf16 logits", logits), ("fp32 logits of bf16", operands)):
        expected = slow(wide(head), lambda _, z=z: z, hidden, targets)["kl"].mean().item()
        assert kl[name] == pytest.approx(expected, rel=0.02)


def test_a_low_rank_head_goes_through_the_map_of_the_logits():
    head, text = layer(cap=3.0), states()
    u, s, v = torch.linalg.svd(head.weight - head.weight.mean(0), full_matrices=False)
    cheap = low_rank(head, u * s, v, head.weight.mean(0))
    x = text.hidden.flatten(0, 1)
    torch.testing.assert_close(cheap.logits(x, x), head.logits(x), rtol=1e-4, atol=1e-4)


def test_what_is_weighted_is_weighted_by_the_mean_prediction_of_the_fitted_half(whole):
    head, text = layer(), states(windows=16)
    fit = torch.isin(text.document, torch.tensor([0, 2]))
    prediction = head.logits(text.hidden[fit].flatten(0, 1)).softmax(1).mean(0)
    shift = prediction @ head.weight
    other = FORMATS["fp8 row"].rounded(head.weight - shift) + shift
    hidden, targets = text.hidden[~fit].flatten(0, 1), text.targets[~fit].flatten()
    [one] = apart(head, [dense(head, other)], hidden, targets)
    [kind] = [k for k in whole.kinds if k.name == "fp8 row, less mean row weighted by pi"]
    assert kind.kl.value == pytest.approx(one.kl.mean().item(), rel=1e-3)


def test_every_percentile_is_of_the_sizes_and_the_bytes_are_over_those_of_bfloat16(whole):
    head, text = layer(), states(windows=16)
    measured = torch.isin(text.document, torch.tensor([1, 3]))
    hidden, targets = text.hidden[measured].flatten(0, 1), text.targets[measured].flatten()
    [one] = apart(head, [dense(head, FORMATS["nf4"].rounded(head.weight))], hidden, targets)
    sizes = one.nats.abs().sort().values
    [kind] = [kind for kind in whole.kinds if kind.name == "nf4"]
    places = {"ninety": 0.9, "ninety_nine": 0.99, "thousandth": 0.999}
    for name, level in places.items():
        below = int(level * (len(sizes) - 1))
        assert sizes[below] <= getattr(kind.changes, name) <= sizes[below + 1]
    assert kind.share == kind.num_bytes / (2 * V * D)
    assert whole.kinds[0].share == 1
    p = head.logits(hidden).double().softmax(1)
    assert whole.concentration == pytest.approx(p.square().sum(1).mean().item(), rel=1e-5)


def test_a_trim_keeps_the_most_probable_token_where_it_stays():
    head, text = layer(), states()
    counts = torch.randint(5, (V,), generator=torch.Generator().manual_seed(7))
    top = head.logits(text.hidden.flatten(0, 1)).argmax(1)
    order = sorted(range(V), key=lambda i: (-int(counts[i]), i))
    for trim in trims(head, text.hidden, text.targets, text.document, counts):
        kept = torch.isin(top, torch.tensor(order[: trim.num_rows])).double().mean().item()
        assert trim.top1.value == pytest.approx(kept)
        assert trim.share == trim.num_rows / V
