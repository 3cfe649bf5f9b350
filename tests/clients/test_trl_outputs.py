"""What TRL computes of full logits, and in its own fused kernel, beside our token outputs.

For a softmax they are the same numbers; TRL's mean of logits is ours up to the normalizer, which
is what its metric leaves out.
"""

import pytest
import torch
from torch import nn

import wideneck as wn

trl_utils = pytest.importorskip("trl.trainer.utils")
try:
    from trl import kernels
except ImportError:
    kernels = None
CHUNKED = getattr(kernels, "ChunkedLogProbFunction", None)  # before 1.16 it has fewer outputs
ALL = ("log_prob", "entropy", "log_sum_sq_prob", "mean_log_prob", "top1")
D, V = 16, 61


def case(bias=True):
    torch.manual_seed(0)
    head = wn.heads.build("softmax", hidden_size=D, vocab_size=V, bias=bias)
    nn.init.normal_(head.weight)
    if bias:
        nn.init.normal_(head.bias)
    hidden = torch.randn(2, 9, D, requires_grad=True)
    target = head.log_probs(hidden).argmax(-1)
    target = torch.where(torch.rand(2, 9) < 0.4, target, torch.randint(V, (2, 9)))
    return head, hidden, target


def gradients(log_prob, entropy, leaves):
    weights = torch.linspace(-1, 2, log_prob.numel()).view_as(log_prob)
    return torch.autograd.grad((log_prob * weights).sum() + 0.3 * entropy.sum(), leaves)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_functions_of_full_logits_give_the_same(temperature, shows):
    shows("functions of full logits, beside token_outputs", "right")
    head, hidden, target = case()
    leaves = [hidden, head.weight, head.bias]
    got = head.token_outputs(hidden, target, ALL, temperature=temperature)
    logits = nn.functional.linear(hidden, head.weight, head.bias) / temperature
    log_prob = trl_utils.selective_log_softmax(logits, target)
    entropy = trl_utils.entropy_from_logits(logits)
    torch.testing.assert_close(got.log_prob, log_prob, atol=5e-6, rtol=1e-5)
    torch.testing.assert_close(got.entropy, entropy, atol=5e-6, rtol=1e-5)
    torch.testing.assert_close(
        gradients(got.log_prob, got.entropy, leaves),
        gradients(log_prob, entropy, leaves),
        atol=1e-5,
        rtol=1e-4,
    )
    assert torch.equal(got.top1, logits.argmax(-1) == target)
    assert 0 < got.top1.sum() < target.numel()
    # Of our own log-probabilities, which are a model's logits, they say the same.
    own = head.log_probs(hidden) / temperature
    again = trl_utils.selective_log_softmax(own, target)
    torch.testing.assert_close(got.log_prob, again, atol=5e-6, rtol=1e-5)


@pytest.mark.skipif(CHUNKED is None, reason="TRL has these outputs from 1.16 on")
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("bias", [True, False])
def test_the_fused_head_gives_the_same(temperature, bias, shows):
    shows("fused kernel of a softmax, beside token_outputs", "right")
    head, hidden, target = case(bias)
    leaves = [hidden, head.weight, *([head.bias] if bias else [])]
    got = head.token_outputs(hidden, target, ALL, temperature=temperature)
    outputs = ("entropy", "log_sum_sq_probs", "mean_logits", "is_top1")
    log_prob, entropy, squares, mean, top1 = CHUNKED.apply(
        hidden.reshape(-1, D), head.weight, head.bias, target.reshape(-1), temperature, 16, None,
        1.0, outputs,
    )  # fmt: skip
    near = {"atol": 5e-6, "rtol": 1e-5}
    torch.testing.assert_close(got.log_prob.flatten(), log_prob, **near)
    torch.testing.assert_close(got.entropy.flatten(), entropy, **near)
    torch.testing.assert_close(got.log_sum_sq_prob.flatten(), squares, **near)
    assert torch.equal(got.top1.flatten(), top1)
    logits = nn.functional.linear(hidden, head.weight, head.bias).flatten(0, 1) / temperature
    torch.testing.assert_close(got.mean_log_prob.flatten(), mean - logits.logsumexp(-1), **near)
    torch.testing.assert_close(
        gradients(got.log_prob.flatten(), got.entropy.flatten(), leaves),
        gradients(log_prob, entropy, leaves),
        atol=1e-5,
        rtol=1e-4,
    )


@pytest.mark.skipif(CHUNKED is None, reason="TRL has these outputs from 1.16 on")
def test_a_cap_and_a_scale_are_those_of_a_softcap_head():
    head = wn.heads.build("softcap", hidden_size=D, vocab_size=V, cap=3.0, logit_scale=0.5)
    nn.init.normal_(head.weight)
    hidden, target = torch.randn(11, D), torch.randint(V, (11,))
    got = head.token_outputs(hidden, target, ("log_prob", "entropy"), temperature=0.7)
    log_prob, entropy, *_ = CHUNKED.apply(
        hidden, head.weight, None, target, 0.7, 16, 3.0, 0.5, ("entropy",)
    )
    torch.testing.assert_close(got.log_prob, log_prob, atol=5e-6, rtol=1e-5)
    torch.testing.assert_close(got.entropy, entropy, atol=5e-6, rtol=1e-5)
