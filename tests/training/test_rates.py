"""Learning rates over a run."""

import math

import pytest
from torch import nn

from wideneck import heads
from wideneck.errors import WideneckError
from wideneck.training.loop import TIMES, torch_optimizer
from wideneck.training.optimizers import SGD, AdamW


def test_adamw_rises_linearly_to_its_rate():
    config = AdamW(learning_rate=0.4, warmup=0.1)
    assert config.rate(0.025) == pytest.approx(0.1, rel=1e-12)
    assert config.rate(0.05) == pytest.approx(0.2, rel=1e-12)
    assert config.rate(0.1) == pytest.approx(0.4, rel=1e-12)


def test_adamw_falls_as_a_cosine_to_its_final_share():
    config = AdamW(learning_rate=0.4, warmup=0.2, final=0.1)
    assert config.rate(1.0) == pytest.approx(0.04, rel=1e-12)
    assert config.rate(1.5) == config.rate(1.0)
    assert config.rate(0.6) == pytest.approx(0.4 * 0.55, rel=1e-12)  # half way down
    for progress in (0.3, 0.45, 0.9):
        angle = math.pi * (progress - 0.2) / 0.8
        expected = 0.4 * (0.1 + 0.9 * math.cos(angle / 2) ** 2)
        assert config.rate(progress) == pytest.approx(expected, rel=1e-12)


def test_adamw_can_go_without_warmup_and_stay_where_it_is():
    assert AdamW(learning_rate=0.4, warmup=0.0).rate(0.0) == 0.4
    flat = AdamW(learning_rate=0.4, warmup=0.0, final=1.0)
    assert {flat.rate(p) for p in (0.0, 0.3, 1.0)} == {0.4}


def test_adamw_neither_rises_again_nor_warms_up_for_ever():
    with pytest.raises(WideneckError, match="final <= 1, got 2"):
        AdamW(final=2.0)
    with pytest.raises(WideneckError, match="warmup < 1, got 1"):
        AdamW(warmup=1.0)


def test_sgd_keeps_its_rate():
    assert {SGD(learning_rate=20.0).rate(p) for p in (0.0, 0.5, 1.0)} == {20.0}


def rates(config, model):
    """The rate, over the recipe's, and the decay of every parameter by name."""
    names = {p: name for name, p in model.named_parameters()}
    return {
        names[p]: (group[TIMES], group["weight_decay"])
        for group in torch_optimizer(config, model).param_groups
        for p in group["params"]
    }


@pytest.mark.parametrize("head", ["plif", "scaled_softmax", "gss"])
def test_sgd_has_a_rate_of_its_own_for_what_an_activation_learns(head):
    options = {} if head == "plif" else {"learned": True}
    model = nn.ModuleDict(
        {"head": heads.build(head, hidden_size=4, vocab_size=9, bias=True, **options)}
    )
    learned = {name for name, _ in model.named_parameters() if "activation" in name}
    assert learned
    found = rates(SGD(learning_rate=20.0, activation_rate=0.05, weight_decay=1e-3), model)
    assert found == {name: (0.05 / 20, 0.0) if name in learned else (1.0, 1e-3) for name in found}
    assert found.keys() == dict(model.named_parameters()).keys()


def test_adamw_decays_matrices_only():
    model = nn.ModuleDict({"head": heads.build("plif", hidden_size=4, vocab_size=9, bias=True)})
    found = rates(AdamW(weight_decay=0.1), model)
    assert found == {
        "head.weight": (1.0, 0.1),
        "head.bias": (1.0, 0.0),
        "head.activation.v": (1.0, 0.0),
    }
