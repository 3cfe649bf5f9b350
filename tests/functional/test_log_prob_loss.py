"""Losses of each token's own log-probability, against the same on the whole distribution."""

import pytest
import torch

import wideneck as wn
import wideneck.functional as fn
from functional.fused_examples import ACTIVATIONS, inputs, learned, leaves
from functional.teacher_examples import log_probs_of
from wideneck.errors import WideneckError
from wideneck.functional import scores

N, V = 7, 11


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def dft(log_prob):
    return -log_prob.detach().exp() * log_prob


def ppo(log_prob, old, advantage):
    ratio = (log_prob - old).exp()
    return -torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)


def example_of(mixture, kind):
    example, activation = inputs(mixture), ACTIVATIONS[kind]()
    prior = example["log_prior"]
    example["log_prior"] = None if prior is None else prior.detach().requires_grad_()
    log_p = log_probs_of(example, activation)
    return example, activation, log_p.gather(-1, example["target"].clamp(min=0)[:, None])[:, 0]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_equals_the_loss_of_all_log_probabilities(kind, mixture, reduction):
    example, activation, log_p = example_of(mixture, kind)
    kept = example["target"] != -100
    # Ratios from 0.6 to 1.6: some are clipped, on either side.
    old, advantage = log_p.detach() + torch.linspace(-0.5, 0.5, N), torch.randn(N).double()
    tensors = [leaf for leaf in leaves(example) if leaf is not example["log_prior"]]
    tensors += learned(activation)
    positional = [example[name] for name in ("input", "linear_weight", "target")]
    options = {name: example[name] for name in ("linear_bias", "log_prior")}
    for loss, given in ((ppo, (old, advantage)), (dft, ())):
        got, told = fn.linear_log_prob_loss(
            *positional, loss, *given, **options, activation=activation, reduction=reduction,
            chunk_size=3,
        )  # fmt: skip
        each = torch.where(kept, loss(log_p, *given), 0)
        want = each.sum() / (kept.sum() if reduction == "mean" else 1)
        torch.testing.assert_close(got, want)
        torch.testing.assert_close(told, torch.where(kept, log_p, 0).detach())
        assert not told.requires_grad
        theirs = torch.autograd.grad(2 * want, tensors, retain_graph=True)
        for _ in range(2):
            ours = torch.autograd.grad(2 * got, tensors, retain_graph=True)
            torch.testing.assert_close(ours, theirs)


def test_the_plain_loss_is_minus_the_log_probability():
    example, activation, _ = example_of(True, "sigsoftmax")
    want = wn.linear_cross_entropy(**example, activation=activation)
    got, _ = fn.linear_log_prob_loss(**example, activation=activation, loss=torch.neg)
    torch.testing.assert_close(got, want)
    for mine, other in zip(
        torch.autograd.grad(got, leaves(example)),
        torch.autograd.grad(want, leaves(example)),
        strict=True,
    ):
        torch.testing.assert_close(mine, other)


def test_takes_three_products(monkeypatch):
    """The scores once, in value and gradient together: those of "none" are computed twice."""
    example, _, _ = example_of(False, "softmax")
    taken, of = [], scores.Scores.chunks

    def counted(self, **options):
        for chunk in of(self, **options):
            taken.append(1)
            yield chunk

    monkeypatch.setattr(scores.Scores, "chunks", counted)
    loss, _ = fn.linear_log_prob_loss(**example, loss=dft, chunk_size=N)
    loss.backward()
    assert len(taken) == 1


def test_leading_dimensions_and_more_numbers_a_token():
    hidden, weight = torch.randn(2, 3, 5).double(), torch.randn(V, 5).double()
    target, factors = torch.randint(V, (2, 3)), torch.rand(2, 3, 4).double()

    def loss(log_prob, factors):
        return -(log_prob[:, None] * factors).sum(-1)

    got, log_prob = fn.linear_log_prob_loss(hidden, weight, target, loss, factors)
    want = (hidden @ weight.T).log_softmax(-1).gather(-1, target[..., None])[..., 0]
    torch.testing.assert_close(log_prob, want)
    torch.testing.assert_close(got, -(want * factors.sum(-1)).mean())


@pytest.mark.parametrize("loss", [dft, lambda log_prob: torch.ones_like(log_prob)])
def test_without_targets_or_without_a_slope_the_gradient_is_zero(loss):
    example, _, _ = example_of(True, "gss")
    if loss is dft:
        example["target"] = torch.full((N,), -100)
    got, _ = fn.linear_log_prob_loss(**example, loss=loss)
    assert got == (0 if loss is dft else 1)
    for gradient in torch.autograd.grad(got, leaves(example)):
        assert not gradient.any()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"loss": torch.sum}, "one number for each"),
        ({"loss": lambda _: 1.0}, "got float"),
        ({"loss": dft, "reduction": "none"}, "one more product"),
        ({"loss": dft, "target": torch.full((N,), V)}, "in [0, 11)"),
    ],
)
def test_mistakes_are_one_sentence(options, said):
    example, _, _ = example_of(False, "softmax")
    with pytest.raises(WideneckError) as caught:
        fn.linear_log_prob_loss(**{**example, **options})
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (torch.zeros(N + 1), "leading shape (7,), got (8,)"),
        (torch.zeros(N, requires_grad=True), "pass it detached"),
    ],
)
def test_mistakes_per_token_are_one_sentence(given, said):
    e, _, _ = example_of(False, "softmax")
    with pytest.raises(WideneckError) as caught:
        fn.linear_log_prob_loss(e["input"], e["linear_weight"], e["target"], torch.mul, given)
    assert said in str(caught.value)
