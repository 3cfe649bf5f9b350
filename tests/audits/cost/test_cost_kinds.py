"""Each kind of section "cost" is the head that its name says, and each number is of that kind."""

from dataclasses import replace

import pytest
import torch

from audits.cost.cost_examples import D, T, V, found_of, layer, slow, states, wide
from wideneck.audits.cost import section
from wideneck.audits.cost.cheaper import dense, low_rank
from wideneck.audits.cost.choosing import chosen
from wideneck.audits.cost.dither import COMPARED, dithered, within_steps
from wideneck.audits.cost.measuring import apart
from wideneck.audits.cost.predicting import from_noise, noise_weights
from wideneck.audits.estimate import estimate
from wideneck.audits.output.layer import OutputLayer
from wideneck.audits.output.truncated import fit_truncation
from wideneck.functional.gram import gram
from wideneck.heads.low_rank import balance
from wideneck.rounding import FORMATS, best_scales, gptq
from wideneck.rounding.scaled import under


def uneven():
    """Documents 0 and 2 to fit on, 1 and 3 to measure on, of 5 and 3 and of 2 and 6 windows."""
    document = torch.tensor([0] * 5 + [1] * 2 + [2] * 3 + [3] * 6)
    return replace(states(windows=16), document=document)


@pytest.fixture(scope="module")
def text():
    return uneven()


@pytest.fixture(scope="module")
def whole(text):
    return found_of(text=text)


def measured_half(text):
    some = torch.isin(text.document, torch.tensor([1, 3]))
    return text.hidden[some], text.targets[some], text.document[some]


def fitted_half(text):
    hidden = text.hidden[torch.isin(text.document, torch.tensor([0, 2]))].flatten(0, 1)
    prediction = wide(layer()).logits(hidden.double()).softmax(1).mean(0)
    return hidden.double(), prediction


def named(whole, name):
    [kind] = [kind for kind in whole.kinds if kind.name == name]
    return kind


def divergence(text, weight):
    hidden, targets, _ = measured_half(text)
    head = layer()
    [found] = apart(head, [dense(head, weight)], hidden.flatten(0, 1), targets.flatten())
    return found


def test_every_mean_has_the_interval_of_its_own_tokens_over_the_documents_measured(whole, text):
    _, targets, document = measured_half(text)
    found = divergence(text, FORMATS["nf4"].rounded(layer().weight))
    kind = named(whole, "nf4")
    fields = {"kl": "kl", "nats": "nats", "top1": "same", "acceptance": "acceptance"}
    for name, field in fields.items():
        expected = estimate(getattr(found, field).view_as(targets), document)
        shown = getattr(kind, name)
        assert (shown.value, shown.low, shown.high) == pytest.approx(
            (expected.value, expected.low, expected.high), rel=1e-6
        )
        assert shown.num_groups == 2


def test_the_sizes_of_the_text_are_those_of_its_halves(whole):
    assert whole.num_fit_tokens == whole.num_tokens == 8 * T
    assert whole.num_documents == 2
    assert whole.bf16_bytes == 2 * V * D
    assert whole.counted == V * (V - 1) // 2
    for name in ("bf16 logits", "fp32 logits of bf16", "bf16"):
        assert named(whole, name).num_bytes == 2 * V * D


def test_numbers_by_count_are_those_of_the_targets_that_stand_so_often(whole, text):
    hidden, targets, _ = measured_half(text)
    head, other = layer(), FORMATS["Q4_0"].rounded(layer().weight)
    twin = OutputLayer(other.double(), wide(head).bias, head.logit_map)
    expected = slow(wide(head), twin.logits, hidden.flatten(0, 1), targets.flatten())
    counts = targets.flatten()  # id i stands i times elsewhere
    bounds = {"0": (0, 0), "1 to 9": (1, 9), "10 to 99": (10, 99), "100 to 999": (100, 999)}
    parts = named(whole, "Q4_0").by_count
    assert {part.count for part in parts} == set(bounds)
    for part in parts:
        low, high = bounds[part.count]
        mask = (counts >= low) & (counts <= high)
        assert part.num_tokens == mask.sum()
        for name, field in (("kl", "kl"), ("nats", "nats"), ("top1", "same")):
            value = expected[field][mask].mean().item()
            assert getattr(part, name) == pytest.approx(value, rel=1e-3, abs=1e-5)
        accepted = expected["acceptance"][mask].mean().item()
        assert part.acceptance == pytest.approx(accepted, rel=1e-4)


def test_the_largest_change_may_be_a_fall(whole, text):
    falls = 0
    for kind in whole.kinds:
        if kind.sort == "format":
            nats = divergence(text, FORMATS[kind.name].rounded(layer().weight)).nats
            assert kind.changes.largest == pytest.approx(nats.abs().max().item(), rel=1e-6)
            falls += bool(nats.abs().max() > nats.max())
    assert falls


def test_a_format_without_steps_is_predicted_by_the_squares_of_its_errors(whole, text):
    hidden = measured_half(text)[0].flatten(0, 1)
    some = torch.linspace(0, len(hidden) - 1, 257).long()
    weight, weights = layer().weight, noise_weights(layer(), hidden[some])
    for name in ("nf4", "NVFP4", "MXFP4"):
        squares = (FORMATS[name].rounded(weight) - weight).square()
        expected = from_noise(weights, squares)
        assert named(whole, name).predicted.noise == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["Q4_0", "NVFP4"])
def test_fitted_codes_are_those_of_the_second_moment_of_the_fitted_half(name, whole, text):
    hidden, _ = fitted_half(text)
    moment = hidden.T @ hidden / len(hidden)
    grid = FORMATS[name].grid(D)
    scales = best_scales(grid, layer().weight, moment)
    for weight, what in (
        (under(grid, layer().weight, scales), "scales"),
        (gptq(grid, layer().weight, moment, scales), "GPTQ"),
    ):
        kind = named(whole, f"{name}, {what}")
        expected = divergence(text, weight).kl.mean().item()
        assert kind.kl.value == pytest.approx(expected, rel=1e-3)
        assert kind.num_bytes == FORMATS[name].num_bytes(V, D)
    assert named(whole, f"{name}, GPTQ").kl != named(whole, f"{name}, scales").kl


@pytest.mark.parametrize("factors", ["bf16", "int8 row"])
def test_a_rank_is_the_fisher_truncation_with_both_factors_rounded(factors, whole, text):
    head, (fitted, prediction) = layer(), fitted_half(text)
    mean, centred = gram(head.weight)
    cut = fit_truncation("fisher", head.weight, mean, centred, fitted, prediction)
    hidden, targets, _ = measured_half(text)
    for rank in (32, 48, 56):
        inner, outer = cut.inner[:, :rank], cut.outer[:, :rank]
        scale = balance(inner, outer).float()
        round_ = FORMATS[factors].rounded
        cheap = low_rank(head, round_(outer * scale), round_((inner / scale).T), cut.mean)
        [found] = apart(head, [cheap], hidden.flatten(0, 1), targets.flatten())
        kind = named(whole, f"rank {rank}, {factors}")
        assert kind.kl.value == pytest.approx(found.kl.mean().item(), rel=3e-4)
        codes = 2 * rank * (V + D) if factors == "bf16" else rank * (V + D) + 4 * (V + rank)
        assert kind.num_bytes == codes + 4 * D


@pytest.mark.parametrize(("length", "fitted"), [(64, True), (63, False)])
def test_twice_the_hidden_size_is_enough_to_fit_on(length, fitted):
    found = found_of(text=states(windows=4, num_documents=4, length=length))
    assert found.num_fit_tokens == 2 * length
    assert any(kind.sort == "low rank" for kind in found.kinds) is fitted


def test_heads_that_are_made_in_groups_are_all_there(whole, text, monkeypatch):
    monkeypatch.setattr(section, "HELD", 3 * 4 * V * D)
    few = found_of(text=text)
    assert [kind.name for kind in few.kinds] == [kind.name for kind in whole.kinds]
    assert [kind.kl.value for kind in few.kinds] == [kind.kl.value for kind in whole.kinds]


def test_a_weight_is_moved_by_up_to_half_a_step_to_either_side():
    rows = 5000  # more than are drawn for at a time
    weight = torch.randn(rows, 8, generator=torch.Generator().manual_seed(0))
    step = torch.rand(rows, 8, generator=torch.Generator().manual_seed(1)) + 0.1
    moved = within_steps(weight, step.square() / 12, 0)
    share = (moved - weight) / step
    assert share.abs().max() <= 0.5 + 1e-5
    assert share.mean().abs() < 0.01
    assert share.square().mean().item() == pytest.approx(1 / 12, rel=0.03)
    assert len(share[:, 0].unique()) > 0.9 * rows
    assert share[-1].abs().min() > 0
    assert torch.equal(moved, within_steps(weight, step.square() / 12, 0))
    assert not torch.equal(moved, within_steps(weight, step.square() / 12, 1))


@pytest.mark.parametrize(("stored", "name"), [("Q8_0", "Q8_0"), ("bfloat16", "bf16")])
def test_what_is_dithered_is_compared_with_the_moved_head(stored, name, text):
    head, (hidden, targets, document) = layer(), measured_half(text)
    variance = FORMATS[name].variance(head.weight)
    moved = within_steps(head.weight, variance, 7)
    base = OutputLayer(moved, head.bias, head.logit_map)
    found = dithered(head, hidden, document, stored, 7, [])
    assert [one.name for one in found] == list(COMPARED)
    for one in found:
        other = dense(base, FORMATS[one.name].rounded(moved))
        [expected] = apart(base, [other], hidden.flatten(0, 1), targets.flatten())
        kl = estimate(expected.kl.view_as(targets), document)
        assert (one.kl.value, one.kl.high) == pytest.approx((kl.value, kl.high), rel=1e-6)


def test_the_seed_chooses_the_dither_and_the_positions_that_it_is_measured_on(text, monkeypatch):
    asked = []

    def noted(layer, hidden, document, stored, seed, notes):
        asked.append((hidden, document, seed))
        return []

    monkeypatch.setattr(section, "dithered", noted)
    monkeypatch.setattr(section, "DITHERED", 24)
    hidden, _, document = measured_half(text)
    for seed in (3, 4):
        found_of(text=text, seed=seed)
        some, of, given = asked[-1]
        assert given == seed
        assert torch.equal(of, document)
        assert some.shape == (8, 3, D)
        equal = (some[0][:, None] == hidden[0][None]).all(2)
        assert equal.sum() == 3
        assert set(equal.nonzero()[:, 1].tolist()) != {0, 1, 2}
    assert not torch.equal(asked[0][0], asked[1][0])


def test_the_choice_is_among_what_can_be_stored(whole):
    kind = whole.kinds[0]

    def one(name, sort, num_bytes, kl, nats=9.0):
        kl, nats = replace(kind.kl, value=kl), replace(kind.nats, value=nats)
        return replace(kind, name=name, sort=sort, num_bytes=num_bytes, kl=kl, nats=nats)

    kinds = [
        one("logits", "logits", 1, 0.001),
        one("shifted", "shifted", 1, 0.001),
        one("large", "format", 30, 0.01),
        one("worse", "better", 20, 0.03),
        one("equal", "format", 20, 0.02),
        one("small", "low rank", 10, 0.05),
    ]
    expected = {0.06: "small", 0.05: "small", 0.04: "equal", 0.02: "equal", 0.015: "large"}
    for limit, name in expected.items():
        assert chosen(kinds, limit).name == name
    none = chosen(kinds, 0.005)
    assert (none.name, none.nearest, none.nearest_kl) == (None, "large", 0.01)


def test_a_target_that_the_head_gives_nothing_has_a_change_of_probability():
    head = layer(bias=False)
    steep = OutputLayer(head.weight * 3000, None, head.logit_map)
    text = states()
    hidden, targets = text.hidden.flatten(0, 1), text.targets.flatten()
    flat = dense(steep, head.weight)
    [found] = apart(steep, [flat], hidden, targets)
    twin = OutputLayer(head.weight.double(), None, head.logit_map)
    expected = slow(wide(steep), twin.logits, hidden, targets)["probability"]
    assert (steep.logits(hidden).softmax(1).gather(1, targets[:, None]) == 0).any()
    torch.testing.assert_close(found.probability, expected, rtol=0.01, atol=1e-3)
