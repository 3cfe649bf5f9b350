"""A factor of all scores beside products of bfloat16: on their float32 sums, and on no operand."""

import pytest
import torch
import torch.nn.functional as F

import wideneck as wn
from functional.bfloat16_examples import bfloat16_inputs, both, errors, outputs, wide
from functional.fused_examples import leaves, number
from wideneck.functional import apart, check, op, products, scores
from wideneck.functional import fused as fused_module

KINDS = ["constant", "learned", "logit_scale"]
FACTOR = 1.3
ROUNDING = 2**-8
"""Of a bfloat16 number: half a step."""


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def _options(kind: str) -> dict:
    if kind == "logit_scale":
        return {"logit_scale": FACTOR}
    return {"activation": wn.ScaledSoftmax(scale=number(FACTOR) if kind == "learned" else FACTOR)}


def _gold(given: dict) -> tuple[list, torch.Tensor, torch.Tensor]:
    """Losses, log-probabilities and gradients in float64, scores times the factor."""
    some, scale = wide(given), number(FACTOR)
    z = F.linear(some["input"], some["linear_weight"], some["linear_bias"]) * scale
    log_p = z.log_softmax(-1)
    if some["log_prior"] is not None:
        log_p = wn.functional.log_mixture(some["log_prior"], log_p)
    nll = F.nll_loss(log_p, some["target"], reduction="none")
    return [nll.detach(), *torch.autograd.grad(nll.sum(), [*leaves(some), scale])], z, log_p


@pytest.mark.usefixtures("_rounded")
@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_exact_and_gradients_are_rounded_as_without_it(kind, mixture):
    """X times the factor, were it rounded, would bring 4e-3 of the scores into the losses."""
    given, options = bfloat16_inputs(8, mixture), _options(kind)
    gold, z, _ = _gold(given)
    nll, normalizer = both(**given, **options, reduction="none")
    asked = leaves(given)
    asked += [options["activation"].scale] if kind == "learned" else []
    found = [nll.detach(), *torch.autograd.grad(nll.sum(), asked)]
    off = errors(found, gold[: len(found)])
    assert off[0] < 1e-5
    # That of the factor is what is left of sums of both signs.
    assert max(off[1 : len(leaves(given)) + 1]) < ROUNDING / 1.5
    assert max(off) < 4 * ROUNDING
    torch.testing.assert_close(normalizer.double(), z.logsumexp(-1), rtol=1e-6, atol=1e-5)


@pytest.mark.usefixtures("_rounded")
@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_token_outputs_have_it_too(kind, mixture):
    """The gradient of W is that of rounded numbers once: no row's factor takes the scale along."""
    given, options = bfloat16_inputs(4, mixture), _options(kind)
    _, _, log_p = _gold(given)
    told = outputs(**given, **options)
    want = log_p.gather(1, given["target"][:, None])[:, 0]
    assert errors([told.log_prob.detach()], [want.detach()])[0] < 1e-5
    entropy = -(log_p.exp() * log_p).sum(-1)
    assert errors([told.entropy.detach()], [entropy.detach()])[0] < 1e-5


@pytest.mark.usefixtures("_rounded")
def test_spread_targets_leave_x_as_it_is():
    """Their G has every factor of a row, so that X needs no rounding: nor for the scale."""
    given, found = bfloat16_inputs(2, mixture=False), []
    for factor in (1, FACTOR):
        options = {"activation": wn.ScaledSoftmax(scale=factor), "label_smoothing": 0.3}
        exact, got = (
            torch.autograd.grad(wn.linear_cross_entropy(**some, **options), [some["linear_weight"]])
            for some in (wide(given), given)
        )
        found += errors(got, exact)
    assert found[1] < 1.12 * found[0]


def test_a_head_scales_its_logits_in_float32():
    """The product of bfloat16 contexts and a number is rounded where nobody widens it."""
    head = wn.heads.build("softmax", hidden_size=64, vocab_size=300, logit_scale=FACTOR).bfloat16()
    hidden, target = torch.randn(50, 64).bfloat16() * 8, torch.randint(300, (50,))
    z = F.linear(hidden.double(), head.weight.double()) * FACTOR
    exact = F.cross_entropy(z, target, reduction="none")
    assert errors([head.nll(hidden, target).detach()], [exact.detach()])[0] < 1e-5


def _on_cpu(monkeypatch) -> None:
    """Tensor cores by their specification, and the pass that is one kernel there."""

    def scores_of(self, x, b, out, scale=None):
        assert scale is None
        assert x.dtype == torch.bfloat16
        out.copy_(x.float() @ self.W.float().T + (0 if b is None else b))

    def to_input(self, G, out=None):
        found = G.float() @ self.W.float()
        return found if out is None else out.copy_(found)

    def to_weight(self, total, G, ax):
        found = G.T.float() @ ax.float()
        return found if total is None else total.add_(found)

    def to_bias(self, total, G, a):
        parts = [torch.ones_like(G[:, 0])] if a is None else products._in_parts(a)
        total.add_(G.T.float() @ torch.stack(parts, 1).float().sum(1))

    def weigh(z, form, anchor, column, room, rest, *, sums):
        assert (rest is None) == weigh.whole
        scale, bias = (None, None) if rest is None else rest
        weigh.seen += 1
        return apart.weigh_apart(z, form, anchor, column, room, sums, scale, bias)

    weigh.whole, weigh.seen = False, 0
    monkeypatch.setattr(apart, "_weigh", weigh)
    for name, one in (
        ("scores", scores_of),
        ("to_input", to_input),
        ("to_weight", to_weight),
        ("to_bias", to_bias),
    ):
        monkeypatch.setattr(products.TensorCores, name, one)
    return weigh


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("way", ["in the pass", "captured", "smoothing"])
def test_on_tensor_cores_the_pass_has_it(way, mixture, bias, monkeypatch):
    """Where the device must not be waited for, a learned scale is no argument of a product."""
    given = bfloat16_inputs(4, mixture, bias=bias)
    rest = {"label_smoothing": 0.1} if way == "smoothing" else {}
    found = []
    for kind in ("rounded", "tensor cores"):
        monkeypatch.setattr(scores, "kind_for", lambda device, narrow, kind=kind: kind)
        monkeypatch.setattr(products, "_cpu_has_units", lambda: False)
        if kind == "tensor cores":
            weigh = _on_cpu(monkeypatch)
            weigh.whole = way == "captured"
            if way == "captured":
                for module in (check, op, fused_module):
                    monkeypatch.setattr(module, "may_wait", lambda device: False)
        options = _options("learned")
        loss, normalizer = both(**given, **options, **rest, reduction="none")
        asked = [*leaves(given), options["activation"].scale]
        found.append([loss, normalizer, *torch.autograd.grad(loss.sum(), asked)])
    assert (weigh.seen > 0) == (way != "smoothing")
    torch.testing.assert_close(*[some[:2] for some in found], rtol=1e-5, atol=1e-5)
    # Anchored elsewhere, G is rounded elsewhere; else where its last float32 bits differ.
    bound = 2 * ROUNDING if way == "captured" else ROUNDING / 2
    want = [gradient.double() for gradient in found[0][2:]]
    assert max(errors(found[1][2:], want)) < bound


def test_a_rows_factor_is_not_rounded_for_the_bias():
    """Tensor cores take 8 columns at least: three of them hold all 24 bits of it."""
    a = torch.randn(1000) * 10 ** torch.linspace(-20, 10, 1000)
    assert torch.equal(sum(part.double() for part in products._in_parts(a)), a.double())
    G, total = torch.randn(1000, 7).bfloat16().float(), torch.zeros(7)
    products.Rounded(torch.zeros(7, 2)).to_bias(total, G, a)
    torch.testing.assert_close(total.double(), G.T.double() @ a.double(), rtol=1e-5, atol=0)
