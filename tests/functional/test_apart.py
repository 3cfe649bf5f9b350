"""Targets that stand apart: confident rows, targets at -inf, and rows that are done again."""

import pytest
import torch

import wideneck as wn
from functional.bfloat16_examples import (
    SLACK,
    bfloat16_inputs,
    both,
    errors,
    naive,
    naive_outputs,
    outputs,
    wide,
)
from functional.fused_examples import leaves, slow
from functional.token_examples import dense
from wideneck.functional import chunks, scores


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def _confident(gap: float, mixture: bool) -> dict:
    """Every token's target so far above the median; N is no power of two, of which 1/N is exact."""
    given = bfloat16_inputs(1, mixture, N=100, bias=False)
    W, target = given["linear_weight"].detach().float(), torch.randint(300, (100,))
    x = W[target] + 0.05 * torch.randn(100, 64)
    z = x @ W.T
    x *= gap / (z.gather(1, target[:, None]) - z.median(1, keepdim=True).values)
    x = x if not mixture else x[:, None] * torch.tensor([1, 0.9, 1.1])[:, None]
    return given | {"input": x.bfloat16().requires_grad_(), "target": target}


@pytest.mark.usefixtures("_rounded")
@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("gap", [8.0, 12.0, 20.0])
@pytest.mark.parametrize("what", ["looked at again", "token outputs"])
def test_what_confident_rows_have_left_is_no_rounding_of_their_target(what, gap, mixture):
    """Its gradient, p - 1, is far below a rounding of p: a p that stays in G would be all error."""
    given, found = _confident(gap, mixture), []
    gold_given = wide(given)
    ways = (slow, naive, both) if what == "looked at again" else (dense, naive_outputs, outputs)
    for way in ways:
        some = gold_given if way in (slow, dense) else given
        if what == "token outputs":
            told = way(**some)
            total = told.log_prob.sum() + 0.1 * told.entropy.sum()
        else:
            values = torch.linspace(-30, 30, 401, dtype=torch.float64).requires_grad_()
            rest = {"activation": wn.config.PLIF(num_knots=401, reach=30.0, values=values)}
            total = (way(some, **rest) if way is naive else way(**some, **rest))[0]
        found.append(torch.autograd.grad(total, leaves(some)))
    for mine, other in zip(errors(found[2], found[0]), errors(found[1], found[0]), strict=True):
        assert mine <= SLACK * other + 1e-6


@pytest.mark.usefixtures("_rounded")
@pytest.mark.parametrize("kind", ["softmax", "sigsoftmax", "relu"])
def test_a_target_at_minus_infinity_leaves_the_other_rows_alone(kind):
    """Masked entries have a bias of -inf.  Their own loss is infinite, and no gradient is NaN."""
    given = bfloat16_inputs(1, mixture=False, N=6, V=5, D=4)
    given["target"] = torch.tensor([0, 1, 2, 0, 1, 0])
    with torch.no_grad():
        given["linear_bias"][2:4] = -torch.inf
    found = []
    for some in (wide(given), given):
        loss = wn.linear_cross_entropy(**some, activation=kind, reduction="none")
        found.append([loss.detach(), *torch.autograd.grad(loss.sum(), leaves(some)[:2])])
    torch.testing.assert_close(found[1][0].double(), found[0][0], rtol=1e-5, atol=0)
    assert kind == "relu" or found[1][0][2] == torch.inf
    assert not any(x.isnan().any() for x in found[1])
    assert all(error < 2**-7 for error in errors(found[1][1:], found[0][1:]))


@pytest.mark.usefixtures("_rounded")
def test_tokens_are_done_again_in_the_memory_that_there_is(monkeypatch):
    """600 of 1,200 are more than a chunk of 400: they took a second workspace, and W again."""
    taken, of = [], scores.workspace

    def counted(size, **rest):
        taken.append(size)
        return of(size, **rest)

    monkeypatch.setattr(scores, "workspace", counted)
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 700)
    x, W = torch.eye(8).bfloat16().repeat(150, 1), 60 * torch.eye(8).bfloat16()
    target = torch.arange(8).repeat(150)
    target[:1200:2] = (target[:1200:2] + 1) % 8
    loss = wn.linear_cross_entropy(x, W, target, reduction="none")
    assert (loss[::2] == 60).all()
    assert (loss[1::2] < 1e-20).all()
    assert taken == [8 * 8 + 600 * 8]
