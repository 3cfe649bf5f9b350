"""Learned numbers of a normalizer: where they start, what they mean, and what asentmax reads."""

import math

import pytest
import torch
from torch import nn

from wideneck.attention import build, normalize
from wideneck.attention.learned import note_hidden, take_hidden


@pytest.mark.parametrize("alpha", [1.05, 1.2, 1.5, 1.9])
def test_a_learned_alpha_starts_at_the_configs_and_stays_between_1_and_2(alpha):
    module = build("entmax", num_heads=3, alpha=alpha)
    found = module.numbers().alpha
    assert found.shape == (3, 1, 1)
    torch.testing.assert_close(found, torch.full((3, 1, 1), alpha))
    share = alpha - 1
    assert module.raw_alpha[0].item() == pytest.approx(math.log(share / (1 - share)), rel=1e-5)
    with torch.no_grad():
        module.raw_alpha.copy_(torch.tensor([-5.0, 0.0, 5.0]))
    expected = [1 + 1 / (1 + math.exp(5)), 1.5, 1 + 1 / (1 + math.exp(-5))]
    assert module.numbers().alpha.flatten().tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [("sink", {"logit": -0.7}), ("ssmax", {"scale": 0.3, "bias": 0.9})],
)
def test_every_head_has_its_own_number_and_the_config_is_where_it_starts(name, numbers):
    module = build(name, num_heads=3, **numbers)
    for field, value in numbers.items():
        torch.testing.assert_close(getattr(module, field), torch.full((3,), value))
        getattr(module, field).data.add_(torch.arange(3.0))
    scores = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    found = module(scores)
    for head in range(3):
        own = {field: value + head for field, value in numbers.items()}
        torch.testing.assert_close(found[:, head], normalize(scores[:, head], name, **own))


@pytest.mark.parametrize("reach", [0.0, 0.5, 3.0])
def test_asentmax_reaches_as_far_as_its_config_says(reach):
    module = build("asentmax", num_heads=2, hidden_size=3, reach=reach, delta=0.4, alpha=1.7)
    with torch.no_grad():
        module.gamma.fill_(50.0)
        module.beta.fill_(-50.0)
    config = module.numbers(torch.ones(1, 4, 3))
    torch.testing.assert_close(config.gamma, torch.full((1, 2, 4, 1), reach))
    torch.testing.assert_close(config.beta, torch.zeros(1, 2, 4, 1))
    assert (config.delta, config.alpha) == (0.4, 1.7)


def test_asentmax_starts_where_no_head_looks_at_its_hidden_state():
    module = build("asentmax", num_heads=2, hidden_size=3)
    config = module.numbers(torch.randn(1, 4, 3))
    torch.testing.assert_close(config.beta, torch.full((1, 2, 4, 1), math.log(2)))
    assert not config.gamma.any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_they_are_float32_under_every_default_type(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        made = [build(name, num_heads=2, hidden_size=3) for name in ("sink", "entmax", "asentmax")]
    finally:
        torch.set_default_dtype(before)
    assert {p.dtype for module in made for p in module.parameters()} == {torch.float32}


def test_hidden_states_are_taken_once_and_by_their_own_layer():
    layer, other, hidden = nn.Identity(), nn.Identity(), torch.ones(1, 2, 3)
    note_hidden(layer, (hidden,), {})
    assert take_hidden(other) is None
    assert take_hidden(layer) is hidden
    assert take_hidden(layer) is None
    note_hidden(layer, (), {"hidden_states": hidden})
    note_hidden(other, (2 * hidden,), {})
    assert take_hidden(layer) is None
    assert torch.equal(take_hidden(other), 2 * hidden)
