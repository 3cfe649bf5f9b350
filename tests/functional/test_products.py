"""Products of bfloat16, emulated: as exact as the obvious bfloat16 code, for every head."""

import math
import threading

import pytest
import torch
import torch.nn.functional as F

import wideneck as wn
from functional.bfloat16_examples import (
    SLACK,
    bfloat16_inputs,
    both,
    errors,
    naive,
    naive_outputs,
    outcome,
    outputs,
    wide,
)
from functional.fused_examples import ACTIVATIONS, learned, leaves, slow
from functional.token_examples import dense
from wideneck.functional import apart, check, op, products, scores
from wideneck.functional import fused as fused_module
from wideneck.functional.affine import affine

FORMS = sorted(set(ACTIVATIONS) - {"gss at 1", "plif at start"})
SPREADS = (0.5, 1, 2, 4, 8, 12, 20, 40)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.usefixtures("_rounded")
@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("kind", FORMS)
def test_errors_are_never_above_the_obvious_codes(kind, mixture):
    """Over eight spreads of the scores: of every token's loss, and of all gradients, to float64.

    The reduced loss is one number, whose error is a matter of luck.
    """
    activation = ACTIVATIONS[kind]
    for spread in SPREADS:
        given = bfloat16_inputs(spread, mixture)
        gold_given = wide(given)
        leaves_, gold_leaves = leaves(given), leaves(gold_given)
        for reduction in ("none", "mean", "sum"):
            rest = {"activation": activation(), "reduction": reduction}
            gold = outcome(*slow(**gold_given, **rest), gold_leaves)
            theirs = errors(outcome(*naive(given, **rest), leaves_), gold)
            ours = errors(outcome(*both(**given, **rest), leaves_), gold)
            for mine, other in list(zip(ours, theirs, strict=True))[reduction != "none" :]:
                assert mine <= SLACK * other + 1e-6, (spread, reduction, ours, theirs)


@pytest.mark.usefixtures("_rounded")
@pytest.mark.parametrize("spread", [8, 12, 20, 40])
def test_the_gradients_of_a_sigmoid_are_rounded_once(spread):
    """The obvious code loses next to nothing by rounding its scores: two roundings would show."""
    given = bfloat16_inputs(spread, False)
    gold_given = wide(given)
    activation = {"activation": ACTIVATIONS["sigmoid"]()}
    gold = outcome(*slow(**gold_given, **activation), leaves(gold_given))
    theirs = errors(outcome(*naive(given, **activation), leaves(given)), gold)
    ours = errors(outcome(*both(**given, **activation), leaves(given)), gold)
    for mine, other in list(zip(ours, theirs, strict=True))[1:3]:  # of X and of W
        assert mine < 0.96 * other


CASES = {
    "z-loss": {"z_loss": 0.1},
    "class weights": {"weight": torch.rand(300) + 0.5},
    "smoothing": {"label_smoothing": 0.1},
}


@pytest.mark.usefixtures("_rounded")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_what_else_a_loss_has_is_in_its_gradients(case, mixture, reduction):
    """To within a rounding, against PyTorch's loss of float64 log-probabilities."""
    given = bfloat16_inputs(4, mixture)
    given["target"][::5] = -100
    gold_given, rest = wide(given), {"reduction": reduction, **CASES[case]}
    found = []
    for some, loss_of in ((gold_given, _gold), (given, wn.linear_cross_entropy)):
        loss = loss_of(**some, **rest)
        found.append([loss.detach(), *torch.autograd.grad(loss.sum(), leaves(some))])
    assert all(error < 2**-7 for error in errors(found[1], found[0]))
    assert errors(found[1], found[0])[0] < 1e-4


def _gold(input, linear_weight, target, *, linear_bias, log_prior, reduction, z_loss=0.0, **rest):
    """By definition: -sum_j q_j log p_j, the mean over the targets' weights."""
    z = F.linear(input, linear_weight, linear_bias)
    log_p, squares = z.log_softmax(-1), z.logsumexp(-1).square()
    if log_prior is not None:
        log_p, squares = wn.functional.log_mixture(log_prior, log_p), squares.mean(-1)
    V, kept, smoothing = z.shape[-1], target >= 0, rest.get("label_smoothing", 0)
    w = rest.get("weight", torch.ones(V)).double()
    t = target.clamp(min=0)
    q = w * ((1 - smoothing) * F.one_hot(t, V) + smoothing / V)
    loss = -(q * log_p).sum(-1) * kept
    squares = z_loss * squares * kept
    if reduction == "none":
        return loss + squares
    items = (w[t] * kept).sum() if reduction == "mean" else 1
    return loss.sum() / items + squares.sum() / (kept.sum() if reduction == "mean" else 1)


@pytest.mark.usefixtures("_rounded")
@pytest.mark.parametrize("kind", ["gss", "plif", "plif, few knots"])
def test_learned_numbers_get_their_gradients(kind):
    activation = ACTIVATIONS[kind]()
    given = bfloat16_inputs(4, mixture=True)
    numbers, found = learned(activation), []
    for loss_of, some in ((slow, wide(given)), (naive, {"given": given}), (both, given)):
        loss, log_normalizer = loss_of(**some, activation=activation)
        found.append(outcome(loss, log_normalizer, numbers)[1:])
    ours, theirs = errors(found[2], found[0]), errors(found[1], found[0])
    # A bend is a shift of all scores, which reaches it through their rounded gradients.
    assert all(mine <= other + 2**-11 for mine, other in zip(ours, theirs, strict=True))


@pytest.mark.usefixtures("_rounded")
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("far", [43.0, 50.0, 95.0, 1000.0])
def test_rows_far_above_their_target_are_done_again(far, mixture, reduction):
    """Among others that are not: as exact as they, and as the obvious code."""
    given = bfloat16_inputs(2, mixture, bias=False)
    with torch.no_grad():
        rows = given["input"] if not mixture else given["input"][:, 1]
        for n in range(0, 20, 3):  # its scores in a straight line, the target's the lowest
            rows[n] *= far / (rows[n].float() @ given["linear_weight"].float().T).abs().max()
            z = rows[n].float() @ given["linear_weight"].float().T
            given["target"][n] = z.argmin()
    gold_given, rest = wide(given), {"reduction": reduction, "z_loss": 0.01}
    gold = outcome(*slow(**gold_given, **rest), leaves(gold_given))
    theirs = errors(outcome(*naive(given, activation="softmax", **rest), leaves(given)), gold)
    ours = errors(outcome(*both(**given, **rest), leaves(given)), gold)
    assert ours[0] < 1e-5
    assert all(mine <= SLACK * other + 1e-6 for mine, other in zip(ours, theirs, strict=True))


@pytest.mark.usefixtures("_rounded")
def test_only_tokens_that_need_it_are_done_again(monkeypatch):
    seen, of = [], apart.ApartChunk.of

    def counted(z, *rest, **options):
        seen.append((len(z), options["at_top"]))
        return of(z, *rest, **options)

    monkeypatch.setattr(fused_module.ApartChunk, "of", counted)
    x, W = torch.eye(8).bfloat16(), 60 * torch.eye(8).bfloat16()
    right = torch.arange(8)
    wn.linear_cross_entropy(x, W, right)
    assert seen == [(8, False)]
    wrong = right.clone()
    wrong[2], wrong[5] = 3, -100
    loss = wn.linear_cross_entropy(x, W, wrong, reduction="none")
    assert seen[1:] == [(7, False), (1, True)]
    assert loss[2] == 60
    assert loss[0].item() == pytest.approx(
        7 * math.exp(-60), rel=1e-5, abs=0
    )  # what 1 + s would lose


@pytest.mark.usefixtures("_rounded")
@pytest.mark.parametrize("mixture", [False, True])
def test_the_target_stands_apart_too_where_the_scores_are_looked_at_again(mixture):
    """More learned numbers than the vocabulary has room for: no sums, and no bfloat16 target."""
    given = bfloat16_inputs(0.5, mixture, V=30)
    gold_given, at = wide(given), torch.linspace(-2, 2, 65, dtype=torch.float64)
    found = []
    for loss_of, some in ((slow, gold_given), (naive, {"given": given}), (both, given)):
        activation = wn.config.PLIF(num_knots=65, reach=2.0, values=at.clone().requires_grad_())
        loss = loss_of(**some, activation=activation)[0]
        found.append(torch.autograd.grad(loss, leaves(gold_given if loss_of is slow else given)))
    for mine, other in zip(errors(found[2], found[0]), errors(found[1], found[0]), strict=True):
        assert mine <= SLACK * other + 1e-6


@pytest.mark.usefixtures("_rounded")
@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("spread", [0.5, 4, 12])
def test_token_outputs_are_as_exact(spread, mixture):
    """Log-probabilities and entropies, and gradients of both, against those of all scores."""
    given, found = bfloat16_inputs(spread, mixture), []
    gold_given = wide(given)
    for outputs_of, some in ((dense, gold_given), (naive_outputs, given), (outputs, given)):
        told = outputs_of(**some)
        total = told.log_prob.sum() + 0.1 * told.entropy.sum()
        gradients = torch.autograd.grad(total, leaves(gold_given if outputs_of is dense else given))
        found.append([told.log_prob.detach(), told.entropy.detach(), *gradients])
    ours, theirs = errors(found[2], found[0]), errors(found[1], found[0])
    assert all(mine <= SLACK * other + 1e-6 for mine, other in zip(ours, theirs, strict=True))


@pytest.mark.usefixtures("_rounded")
def test_a_nan_stays_one():
    given = bfloat16_inputs(1, mixture=False)
    with torch.no_grad():
        given["input"][3, 0] = torch.nan
    loss = wn.linear_cross_entropy(**given, reduction="none")
    assert loss.isnan().nonzero().tolist() == [[3]]


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("case", [*CASES, "plain"])
def test_where_nobody_may_wait_the_results_are_the_same(
    case, mixture, reduction, narrow, monkeypatch
):
    """As while a graph is captured: ignored tokens are computed, and weigh nothing."""
    kind = "rounded" if narrow else "wide"
    monkeypatch.setattr(scores, "kind_for", lambda device, narrow: kind)
    given = bfloat16_inputs(4, mixture)
    given["target"][::3] = -100
    given["input"].data[::3] = torch.nan  # as padding may be
    found = []
    for waits in (True, False):
        for module in (check, op, fused_module):
            monkeypatch.setattr(module, "may_wait", lambda device, waits=waits: waits)
        loss, log_normalizer = both(**given, reduction=reduction, **CASES.get(case, {}))
        gradients = torch.autograd.grad(
            loss.sum() + log_normalizer.square().sum(), leaves(given), retain_graph=True
        )
        found.append((loss.detach(), log_normalizer.detach(), *gradients))
    torch.testing.assert_close(*[some[:2] for some in found])
    ignored = [x[::3] for x in (found[1][1], found[1][2])]
    assert all((x == 0).all() for x in ignored)
    close = 2**-7 if narrow else 2**-10  # G, or only the gradients, may be rounded otherwise
    assert all(error < close for error in errors(found[1][2:], found[0][2:]))


@pytest.mark.parametrize("factor", [None, torch.tensor([3, 0.1, 0, 1, -2, 7])])
@pytest.mark.parametrize("at", ["target", "top"])
@pytest.mark.parametrize("kind", FORMS)
def test_the_pass_in_the_cache_is_the_formula(kind, at, factor, monkeypatch):
    monkeypatch.setattr("wideneck.functional.passes.BLOCK", 1)  # a row a block
    with torch.no_grad():
        _, _, form = affine(ACTIVATIONS[kind](), torch.zeros(()))
        sums = form.num_sums > 0
        z = 3 * torch.randn(6, 40)
        column = torch.tensor([[0], [7], [39], [-1], [3], [-1]])
        anchor = z.gather(1, column.clamp(min=0)) if at == "target" else z.amax(-1, keepdim=True)
        want, got = torch.empty_like(z), torch.empty_like(z)
        sums_want = apart.weigh_apart(z, form, anchor, column, want, sums, None, None, factor)
        given, kept = (form, anchor, column), z.clone()
        first = apart._weigh(z, *given, None, None, sums=sums)
        assert torch.equal(z, kept)
        sums_got = apart._weigh(z, *given, got, None, sums=sums, factor=factor)
    torch.testing.assert_close(first, sums_want, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sums_got, sums_want, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got, want, rtol=2**-7, atol=0)
    assert torch.equal(got, got.bfloat16().float())
    assert (got.gather(1, column.clamp(min=0))[column >= 0] == 0).all()


@pytest.mark.usefixtures("_rounded")
def test_autocast_of_an_accelerator_rounds_float32_weights_once(monkeypatch):
    """The Trainer's `bf16=True`: the numbers of rounded weights, gradients in float32."""
    given = bfloat16_inputs(4, mixture=False)
    masters = {
        name: value.detach().float().requires_grad_()
        if name in ("linear_weight", "input")
        else value
        for name, value in given.items()
    }
    want = wn.linear_cross_entropy(**given)
    wanted = torch.autograd.grad(want, leaves(given))
    monkeypatch.setattr(products, "ACCELERATORS", ("cpu",))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = wn.linear_cross_entropy(**masters)
    found = torch.autograd.grad(got, leaves(masters))
    assert torch.equal(got, want)
    assert found[1].dtype == torch.float32
    assert torch.equal(found[1].bfloat16(), wanted[1])
    with torch.autocast("cpu", dtype=torch.float16):
        assert not products.asks_for_narrow(masters["input"], masters["linear_weight"])


def test_a_cpu_multiplies_bfloat16_where_it_has_units_for_it(monkeypatch):
    bfloat16, single = torch.zeros(1, dtype=torch.bfloat16), torch.zeros(1)
    assert products.asks_for_narrow(bfloat16, bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not products.asks_for_narrow(single, single)
        assert not products.asks_for_narrow(bfloat16, single)
    assert not products.asks_for_narrow(bfloat16.half(), bfloat16.half())
    cpu = torch.device("cpu")
    for units, kind in ((True, "rounded"), (False, "wide")):
        monkeypatch.setattr(products, "_cpu_has_units", lambda units=units: units)
        assert products.kind_for(cpu, narrow=True) == kind
        assert products.kind_for(cpu, narrow=False) == "wide"


def test_the_setting_of_a_cpus_units_lasts_no_longer_than_a_product(monkeypatch):
    monkeypatch.setattr(products, "_cpu_has_units", lambda: True)
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    W = products.Rounded(torch.randn(5, 3))
    with pytest.raises(RuntimeError):
        W.to_input(torch.randn(2, 4))
    assert matmul.fp32_precision == before


def test_the_setting_of_a_cpus_units_is_touched_only_where_nobody_else_sees_it(monkeypatch):
    """Not while another thread runs, which might multiply, and not over what somebody has set."""
    monkeypatch.setattr(products, "_cpu_has_units", lambda: True)
    backend = torch.backends.mkldnn
    seen, mm = [], torch.mm

    def watched(*given, **rest):
        seen.append(backend.matmul.fp32_precision)
        return mm(*given, **rest)

    monkeypatch.setattr(torch, "mm", watched)
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    W, G = products.Rounded(torch.randn(5, 3)), torch.randn(2, 5)
    W.to_input(G)
    monkeypatch.setattr(threading, "active_count", lambda: 2)
    W.to_input(G)
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    try:
        backend.fp32_precision = "tf32"
        W.to_input(G)
        backend.fp32_precision = "ieee"  # would not be inherited, had the first been put back
        W.to_input(G)
    finally:
        backend.fp32_precision = "none"
    assert seen == ["bf16", "none", "tf32", "ieee"]
    assert backend.matmul.fp32_precision == "none"
