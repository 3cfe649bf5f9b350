"""The logit gradient where it is hard to compute."""

import pytest
import torch

from wideneck.audits.output.layer import OutputLayer
from wideneck.audits.output.summary import summarize
from wideneck.audits.states import HiddenStates
from wideneck.models import LogitMap


def run(weight, hidden, targets):
    states = HiddenStates(
        hidden=hidden[None],
        targets=targets[None],
        document=torch.zeros(1, dtype=torch.long),
        num_bytes=torch.tensor([len(targets)]),
        anisotropy=[],
        last_logits=torch.empty(0),
    )
    return summarize(OutputLayer(weight, None, LogitMap("identity")), states, torch.tensor([True]))


def exact(weight, hidden, targets, rank):
    """Share of the gradient's energy in the leading `rank` columns, in float64.

    From the float32 logits, whose own rounding is not what is tested here.  p - e_y is
    (1 - p_y) (q - e_y), q the softmax over the other tokens.
    """
    z = (hidden @ weight.T).double().scatter_(1, targets[:, None], -torch.inf)
    p = z.softmax(-1).scatter_(1, targets[:, None], -1.0)
    basis = torch.linalg.svd(weight.double(), full_matrices=False)[0][:, :rank]
    return ((p @ basis).square().sum(1) / p.square().sum(1)).mean().item()


@pytest.mark.parametrize("scale", [1, 3, 10])
def test_sure_tokens_keep_their_share(scale):
    """Where 1 - p is below float32's epsilon, p - 1 is 0 and the mean row all that is left."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(1000, 32, generator=generator) + 2
    targets = torch.arange(20)
    hidden = scale * weight[targets] - scale * weight.mean(0)
    share = run(weight, hidden, targets).gradient.energy_share.value
    assert share == pytest.approx(exact(weight, hidden, targets, 32), rel=1e-3)


def test_a_head_of_low_rank_keeps_what_its_rank_keeps():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(2000, 8, generator=generator) @ torch.randn(8, 32, generator=generator)
    hidden = torch.randn(40, 32, generator=generator) / 10
    targets = torch.randint(2000, (40,), generator=generator)
    found = run(weight, hidden, targets).gradient
    assert found.energy_share.value == pytest.approx(exact(weight, hidden, targets, 8), rel=1e-3)
    assert found.energy_baseline == pytest.approx(8 / 2000)


def test_a_hopeless_model_has_a_finite_perplexity():
    weight = torch.eye(4) * 1e4
    found = run(weight, torch.eye(4), torch.tensor([1, 2, 3, 0]))
    assert found.loss.nats_per_token.value == pytest.approx(1e4)
    assert found.loss.perplexity.value < float("inf")
