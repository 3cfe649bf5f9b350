"""What every head promises, over the whole registry."""

import copy
import re

import pytest
import torch
import torch.nn.functional as F
from some_heads import CASES, N, V, some_head, some_tokens

from wideneck import heads
from wideneck.errors import WideneckError

every_head = pytest.mark.parametrize("case", CASES)
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 0.1}


@every_head
def test_probabilities_sum_to_one(case):
    log_probs = some_head(case).log_probs(some_tokens()[0])
    assert log_probs.shape == (N, V)
    assert (log_probs <= 0).all()
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(N))


@every_head
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_the_loss_is_the_log_probability_of_the_target(case, dtype):
    head = some_head(case).to(dtype)
    hidden, target = some_tokens(2, 3, dtype=dtype)
    log_probs = head.log_probs(hidden)
    wide = torch.promote_types(dtype, torch.float32)
    assert log_probs.dtype == wide
    for reduction in ("none", "mean", "sum"):
        loss = head.nll(hidden, target, reduction=reduction)
        want = F.nll_loss(log_probs.flatten(0, 1), target.flatten(), reduction=reduction)
        assert loss.dtype == wide
        assert loss.shape == (target.shape if reduction == "none" else ())
        torch.testing.assert_close(
            loss, want.view_as(loss), atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype]
        )
        assert torch.equal(
            head.nll_and_log_normalizer(hidden, target, reduction=reduction)[0], loss
        )


@every_head
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_the_gradients_of_the_loss_are_those_of_its_values(case, reduction):
    head = some_head(case).double()
    hidden, target = some_tokens(dtype=torch.float64)
    inputs = (hidden.requires_grad_(), *head.parameters())  # gradcheck moves them in place
    assert torch.autograd.gradcheck(
        lambda hidden, *_: head.nll(hidden, target, reduction=reduction), inputs
    )


@every_head
def test_the_gradients_of_loss_and_log_probabilities_agree(case):
    head = some_head(case).double()
    hidden, target = some_tokens(dtype=torch.float64)
    inputs = (hidden.requires_grad_(), *head.parameters())
    fused = torch.autograd.grad(head.nll(hidden, target, reduction="sum"), inputs)
    plain = F.nll_loss(head.log_probs(hidden), target, reduction="sum")
    torch.testing.assert_close(fused, torch.autograd.grad(plain, inputs))


@every_head
def test_every_parameter_gets_a_gradient(case):
    head = some_head(case)
    hidden, target = some_tokens()
    head.nll(hidden, target, reduction="mean").backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@every_head
def test_a_state_dict_carries_the_whole_head(case):
    head = some_head(case)
    hidden, _ = some_tokens()
    other = copy.deepcopy(head)
    other.reset_parameters()
    assert (other.log_probs(hidden) != head.log_probs(hidden)).any()
    other.load_state_dict(head.state_dict())
    assert (other.log_probs(hidden) == head.log_probs(hidden)).all()


@every_head
def test_a_head_can_share_the_matrix_of_an_embedding(case):
    head = some_head(case)
    embedding = torch.nn.Embedding(V, head.embedding_size)
    assert embedding.weight.shape == head.weight.shape
    hidden, target = some_tokens()
    before = head.log_probs(hidden)
    head.weight = embedding.weight
    assert (head.log_probs(hidden) != before).any()
    head.nll(hidden, target, reduction="mean").backward()
    want = torch.autograd.grad(F.nll_loss(head.log_probs(hidden), target), embedding.weight)[0]
    torch.testing.assert_close(embedding.weight.grad, want)
    assert list(head.state_dict()) == list(some_head(case).state_dict())


@every_head
def test_double_precision_changes_only_rounding(case):
    head = some_head(case)
    hidden, target = some_tokens()
    single = head.nll(hidden, target)
    double = head.double().nll(hidden.double(), target)
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, atol=1e-5, rtol=1e-5)


@every_head
def test_a_scale_of_the_logits_scales_the_logits(case):
    head = some_head(case)
    hidden, target = some_tokens()
    scaled = copy.deepcopy(head)
    scaled.logit_scale = head.logit_scale * 0.5
    with torch.no_grad():
        head.weight *= 0.5
        if head.bias is not None:
            head.bias *= 0.5
    torch.testing.assert_close(scaled.log_probs(hidden), head.log_probs(hidden))
    torch.testing.assert_close(scaled.nll(hidden, target), head.nll(hidden, target))


@every_head
def test_leading_dimensions_are_free(case):
    head = some_head(case)
    hidden, target = some_tokens(2, 3)
    torch.testing.assert_close(head(hidden)[1, 2], head(hidden[1, 2]))
    torch.testing.assert_close(head.nll(hidden, target)[1, 2], head.nll(hidden[1, 2], target[1, 2]))


@every_head
def test_the_wrong_hidden_size_is_one_sentence(case):
    head = some_head(case)
    message = f"{type(head).__name__} was built for hidden size 4, got hidden states of shape (6, 5"
    for call in (lambda h: head(h), lambda h: head.nll(h, torch.zeros(6, dtype=torch.long))):
        with pytest.raises(WideneckError, match=re.escape(message)):
            call(torch.zeros(6, 5))


def loss_by_definition(log_probs, log_normalizer, q, smoothing, z_loss):
    """Sum over tokens of the cross-entropy to q, smoothed, and of the squared normalizers."""
    q = (1 - smoothing) * q + smoothing / q.shape[-1]
    squares = log_normalizer.square()
    squares = squares if squares.ndim == 1 else squares.mean(-1)
    return (-(q * log_probs).sum(-1) + z_loss * squares).sum()


@pytest.mark.parametrize("case", ["learned gss", "softmax with bias", "low_rank with bias"])
def test_what_a_loss_may_be_asked_for_reaches_it(case):
    """Weights of classes, soft targets, smoothing, an index to ignore, and the z-loss."""
    head = some_head(case).double()
    hidden, _ = some_tokens(dtype=torch.float64)
    log_probs, eye = head.log_probs(hidden), torch.eye(V).double()
    ids = torch.arange(N)
    loss, lse = head.nll_and_log_normalizer(hidden, ids, reduction="sum")
    torch.testing.assert_close(loss, -log_probs[ids, ids].sum())
    torch.testing.assert_close(lse - head.nll_and_log_normalizer(hidden, 0 * ids)[1], 0 * lse)

    for smoothing, z_loss in ((0.2, 0.0), (0.0, 0.3), (0.2, 0.3)):
        options = {"label_smoothing": smoothing, "z_loss": z_loss, "reduction": "sum"}
        want = loss_by_definition(log_probs, lse, eye[ids], smoothing, z_loss)
        torch.testing.assert_close(head.nll(hidden, ids, **options), want)
        both, _ = head.nll_and_log_normalizer(hidden, ids, **options)
        torch.testing.assert_close(both, want)

    weight = torch.linspace(0.1, 2, V).double()
    weighted = head.nll(hidden, ids, weight=weight, reduction="mean")
    torch.testing.assert_close(weighted, F.nll_loss(log_probs, ids, weight))
    ignored = head.nll(hidden, ids, ignore_index=2)
    torch.testing.assert_close(
        ignored, F.nll_loss(log_probs, ids, ignore_index=2, reduction="none")
    )

    some = torch.stack([ids, ids + 1], -1)
    share = torch.tensor([0.3, 0.7]).double().expand(N, 2)
    soft = (0.3 * eye[ids] + 0.7 * eye[ids + 1]).double()
    want = -(soft * log_probs).sum(-1)
    torch.testing.assert_close(head.nll(hidden, share, target_ids=some), want)
    torch.testing.assert_close(head.nll(hidden, soft), want)


@every_head
def test_a_fresh_head_is_uniform_in_one_over_the_root_of_its_columns_and_its_bias_0(case):
    options = dict(CASES[case])
    torch.manual_seed(0)
    head = heads.build(
        options.pop("head"), hidden_size=64, vocab_size=500, **{**options, "bias": True}
    )
    bound = head.embedding_size**-0.5
    assert 0.999 * bound < head.weight.abs().max() <= bound
    values = head.weight.detach().flatten().double().sort().values
    shares = torch.arange(len(values)) / len(values)
    # Kolmogorov's distance from the uniform distribution is below this 999 times in 1,000.
    assert ((values / bound + 1) / 2 - shares).abs().max() < 1.95 * len(values) ** -0.5
    assert not head.bias.any()


def test_a_head_says_what_it_is():
    head = heads.build("mos", hidden_size=4, vocab_size=9)
    assert repr(head).startswith("MixtureHead(\n  mos, hidden_size=4, vocab_size=9")
    assert "K x" in head.cost
    assert head.cost == head.config.cost
    assert head.rank_bound == 9
    narrow = heads.build("mos", hidden_size=4, vocab_size=9, embedding_size=3)
    assert "mos, hidden_size=4, vocab_size=9, embedding_size=3" in repr(narrow)
