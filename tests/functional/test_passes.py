"""The pass that scales its rows, against the one that does not."""

import pytest
import torch

import wideneck as wn
from functional.fused_examples import slow
from wideneck.functional.forms import LOWEST, SigsoftmaxForm
from wideneck.functional.passes import weigh_
from wideneck.functional.shard import WHOLE

both = wn.linear_cross_entropy_and_log_normalizer
FORM = SigsoftmaxForm()


def test_a_scaled_row_is_its_factor_times_the_plain_one():
    torch.manual_seed(0)
    z = 6 * torch.randn(50, 40, dtype=torch.float64)
    want, got, top = z.clone(), z.clone(), z.amax(-1, keepdim=True)
    want_total = FORM.weigh_(want, top)
    got_total = FORM.weigh_scaled_(got, top, torch.empty_like(z))
    k = FORM.log_scale(top).exp()
    torch.testing.assert_close(got, k * want)
    torch.testing.assert_close(got_total, k * want_total)


def test_low_scores_are_left_to_the_other_way():
    z = torch.full((2, 5), LOWEST - 1)
    kept = z.clone()
    assert FORM.weigh_scaled_(z, z[:, :1], torch.empty_like(z)) is None
    assert torch.equal(z, kept)


def test_which_rows_are_scaled_is_told(monkeypatch):
    monkeypatch.setattr("wideneck.functional.passes.BLOCK", 1)  # a row a block
    z = torch.zeros(3, 5)
    z[1] = LOWEST - 1
    sums = weigh_(z.clone(), FORM, WHOLE, "in place")
    assert sums.scaled is not None
    assert sums.scaled.tolist() == [True, False, True]
    assert weigh_(z.clone(), FORM, WHOLE, "keep").scaled is None


@pytest.mark.parametrize("activation", ["softmax", "sigsoftmax"])
@pytest.mark.parametrize("far", [30.0, 80.0, 300.0])
def test_high_low_and_far_rows_of_one_chunk_are_no_worse_than_the_obvious_code(
    activation, far, monkeypatch
):
    """Targets so far below the top that their probability is denormal, or 0, in float32."""
    monkeypatch.setattr("wideneck.functional.passes.BLOCK", 1)
    torch.manual_seed(0)
    scores = torch.randn(6, 6)
    scores[0, 0] -= far
    scores[1, 2] += far
    scores[2] -= 100
    scores[3] += 100
    scores[4] -= 100 + far * torch.arange(6)
    results = []
    for loss_of, dtype in ((slow, torch.float64), (slow, torch.float32), (both, torch.float32)):
        given = (scores.to(dtype).requires_grad_(), torch.eye(6, dtype=dtype, requires_grad=True))
        outputs = loss_of(*given, torch.arange(6), activation=activation, reduction="none")
        results.append([*outputs, *torch.autograd.grad(outputs[0].sum(), given)])
    for exact, obvious, fused in zip(*results, strict=True):
        wrong = [(x - exact).abs().max() for x in (fused, obvious)]
        assert wrong[0] <= 2 * wrong[1] + 1e-7 * exact.abs().max()
