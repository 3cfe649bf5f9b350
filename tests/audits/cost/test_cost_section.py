"""Section "cost" as a whole: on which half, under which names, what is left out."""

import math
from itertools import pairwise

import pytest
import torch

from audits.cost.cost_examples import IDENTITY, D, T, V, found_of, layer, slow, states, wide
from wideneck.audits.cost.cheaper import dense
from wideneck.audits.cost.choosing import chosen
from wideneck.audits.cost.measuring import apart
from wideneck.audits.cost.predicting import from_noise, noise_weights
from wideneck.audits.measured import UnmeasurableError
from wideneck.audits.output.layer import OutputLayer
from wideneck.rounding.formats import FORMATS


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
    noise = from_noise(noise_weights(head, hidden[some]), variance)
    assert kind.predicted.noise == pytest.approx(noise, rel=1e-6)


def test_what_is_shifted_is_put_back(whole):
    head = layer()
    [kind] = [kind for kind in whole.kinds if kind.name == "Q4_0, less uniform mean"]
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


def test_what_is_weighted_is_weighted_by_the_mean_prediction_of_the_fitted_half(whole):
    head, text = layer(), states(windows=16)
    fit = torch.isin(text.document, torch.tensor([0, 2]))
    prediction = head.logits(text.hidden[fit].flatten(0, 1)).softmax(1).mean(0)
    shift = prediction @ head.weight
    other = FORMATS["fp8 row"].rounded(head.weight - shift) + shift
    hidden, targets = text.hidden[~fit].flatten(0, 1), text.targets[~fit].flatten()
    [one] = apart(head, [dense(head, other)], hidden, targets)
    [kind] = [k for k in whole.kinds if k.name == "fp8 row, less mean weighted by pi"]
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
