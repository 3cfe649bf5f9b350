"""Mixtures: their limits, their start, and their dropout."""

import pytest
import torch

from wideneck import config as c
from wideneck import functional, heads

D, V = 5, 11
ACTIVATIONS = {name: {} for name in c.ACTIVATIONS if name != "plif"} | {"plif": {"num_knots": 9}}


def mixture(name="mos", **options):
    torch.manual_seed(0)
    return heads.build(name, hidden_size=D, vocab_size=V, **options)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_residual_mixture_starts_as_its_activation_on_the_hidden_state(name):
    activation = c.activation_config(name, **ACTIVATIONS[name])
    for K in (1, 4):
        head = mixture(
            activation=activation, projection="residual", num_components=K, dropout=0.0, bias=True
        )
        with torch.no_grad():
            head.bias.normal_()
        hidden = torch.randn(3, D)
        want = functional.log_prob(hidden @ head.weight.T + head.bias, activation)
        torch.testing.assert_close(head(hidden), want)


def test_a_residual_mixture_of_contexts_starts_as_the_softmax():
    head = mixture("moc", projection="residual")
    hidden = torch.randn(3, D)
    torch.testing.assert_close(head(hidden), functional.log_prob(hidden @ head.weight.T))


@pytest.mark.parametrize("name", ["mos", "moss", "moc"])
def test_components_part_at_the_first_step_of_a_residual_mixture(name):
    head = mixture(name, projection="residual", num_components=2)
    head.nll(torch.randn(6, D), torch.arange(6), reduction="mean").backward()
    first, second = head.projections.latent.weight.grad.split(D)
    assert first.abs().sum() > 0
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("projection", ["tanh", "residual"])
def test_a_mixture_of_one_is_its_component(projection):
    head = mixture("moss", num_components=1, projection=projection)
    torch.nn.init.normal_(head.projections.latent.weight)
    hidden = torch.randn(3, D)
    latent = head.projections.latent(hidden)
    context = latent.tanh() if projection == "tanh" else hidden + latent
    want = functional.log_prob(context @ head.weight.T, "sigsoftmax")
    torch.testing.assert_close(head(hidden), want)


@pytest.mark.parametrize("embedding_size", [None, 2, 8])
@torch.no_grad()
def test_a_mixture_is_the_formula_of_the_paper(embedding_size):
    head = mixture("mos", num_components=3, bias=True, embedding_size=embedding_size)
    E = embedding_size or D
    assert head.embedding_size == E
    assert head.weight.shape == (V, E)
    head.bias.normal_()
    h = torch.randn(D)
    pi = (head.projections.prior.weight @ h).softmax(0)
    h_k = (head.projections.latent.weight @ h + head.projections.latent.bias).tanh().view(3, E)
    p = sum(pi[k] * (head.weight @ h_k[k] + head.bias).softmax(0) for k in range(3))
    torch.testing.assert_close(head(h).exp(), p)
    moc = mixture("moc", num_components=3, bias=True, embedding_size=embedding_size)
    moc.load_state_dict(head.state_dict())
    mixed = sum(pi[k] * h_k[k] for k in range(3))
    torch.testing.assert_close(moc(h), (head.weight @ mixed + head.bias).log_softmax(0))


@pytest.mark.parametrize("name", ["mos", "moc"])
@pytest.mark.parametrize("projection", ["tanh", "residual"])
def test_dropout_is_off_in_evaluation(name, projection):
    options = {"num_components": 2, "projection": projection}
    with_dropout, without = mixture(name, dropout=0.5, **options), mixture(name, **options)
    hidden = torch.randn(2, 3, D)
    assert (with_dropout(hidden) != without(hidden)).any()
    assert (with_dropout.eval()(hidden) == without(hidden)).all()


def kept(head, hidden):
    """1 / (1 - rate) where the mask kept a coordinate of a context, 0 where not."""
    dropped, _ = head.train().projections(hidden)
    whole, _ = head.eval().projections(hidden)
    return dropped / whole


def test_dropout_has_one_mask_a_sequence():
    head = mixture(num_components=3, dropout=0.4)
    mask = kept(head, torch.randn(50, 7, D))
    assert mask.shape == (50, 7, 3, D)
    torch.testing.assert_close(mask, mask[:, :1].expand_as(mask))
    assert (mask[0] != mask[1]).any()
    assert (mask[:, :, 0] != mask[:, :, 1]).any()


def test_dropout_of_loose_tokens_has_one_mask_a_token():
    mask = kept(mixture(num_components=3, dropout=0.4), torch.randn(50, D))
    assert mask.shape == (50, 3, D)
    assert (mask[0] != mask[1]).any()


def test_dropout_keeps_the_mean():
    mask = kept(mixture(num_components=3, dropout=0.4), torch.randn(2000, D))
    assert ((mask == 0) | ((mask - 1 / 0.6).abs() < 1e-5)).all()
    share = (mask != 0).double().mean().item()
    assert abs(share - 0.6) < 4 * (0.24 / mask.numel()) ** 0.5
