"""Every gradient by itself is the one that it is among the others, chunk after chunk."""

import pytest
import torch

import wideneck as wn
from functional.fused_examples import inputs
from wideneck import config as c
from wideneck.errors import WideneckError

NAMES = ("input", "linear_weight", "linear_bias", "log_prior", "slope")


def gradients(wanted, reduction, z_loss):
    """By name, of one loss of a mixture, in chunks of two tokens."""
    torch.manual_seed(0)
    given = inputs(True, bias=True)
    activation = c.GSS(slope=torch.tensor(1.5, dtype=torch.float64))
    sources = {name: tensor for name, tensor in given.items() if isinstance(tensor, torch.Tensor)}
    sources["slope"] = activation.slope
    for name in NAMES:
        sources[name].requires_grad_(name in wanted)
    loss = wn.linear_cross_entropy(
        **given, activation=activation, reduction=reduction, z_loss=z_loss, chunk_size=2
    )
    loss.sum().backward()
    return {name: sources[name].grad for name in NAMES}


@pytest.mark.parametrize("z_loss", [0.0, 0.1])
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_alone_is_the_one_among_all(name, reduction, z_loss):
    alone, among = gradients((name,), reduction, z_loss), gradients(NAMES, reduction, z_loss)
    torch.testing.assert_close(alone[name], among[name])
    assert among[name].abs().sum() > 0
    assert all(alone[other] is None for other in NAMES if other != name)


@pytest.mark.parametrize(
    "given",
    [True, "0.1", None, torch.tensor(True), torch.ones(2), torch.tensor(1j), torch.zeros(0)],
)
@pytest.mark.parametrize("name", ["z_loss", "label_smoothing"])
def test_a_number_of_the_loss_is_one_real_number(name, given):
    with pytest.raises(WideneckError, match=f"{name} needs a number, got "):
        wn.linear_cross_entropy(**inputs(False, bias=False), **{name: given})


def test_a_number_of_the_loss_may_be_a_tensor_of_one():
    given = inputs(False, bias=False)
    for number in (torch.tensor(0.1), torch.tensor([[0.1]])):
        found = wn.linear_cross_entropy(**given, z_loss=number)
        torch.testing.assert_close(found, wn.linear_cross_entropy(**given, z_loss=number.item()))
    with pytest.raises(
        WideneckError, match="z_loss is a constant of the loss and gets no gradient"
    ):
        wn.linear_cross_entropy(**given, z_loss=torch.tensor(0.1, requires_grad=True))


@pytest.mark.parametrize("given", [True, 0, 0.0, -1.0, float("inf"), float("nan"), "1"])
def test_a_temperature_is_a_positive_number(given):
    with pytest.raises(WideneckError, match="temperature must be a positive number, got "):
        wn.functional.linear_token_outputs(
            **inputs(False, bias=False), outputs=("entropy",), temperature=given
        )


@pytest.mark.parametrize("bad", [0.0, -1.0, float("inf"), float("nan")])
def test_a_temperature_by_token_is_positive_where_the_target_counts(bad):
    given = inputs(False, bias=False)
    temperature = torch.ones(7)
    temperature[2] = bad  # there the target is ignored
    found = wn.functional.linear_token_outputs(
        **given, outputs=("entropy",), temperature=temperature
    )
    assert found.entropy.isfinite().all()
    temperature[3] = bad
    with pytest.raises(WideneckError, match="temperature must be a positive number for every"):
        wn.functional.linear_token_outputs(**given, outputs=("entropy",), temperature=temperature)
