"""Every head's token outputs, in float32 and chunks, against its own log-probabilities."""

import pytest
import torch
from some_heads import CASES, V, some_head, some_tokens

import wideneck as wn
from functional.token_examples import ALL, of_log_probs


def close(got, want, name):
    torch.testing.assert_close(
        got, want, atol=2e-5, rtol=1e-5, check_dtype=False, msg=lambda m: f"{name}: {m}"
    )


@pytest.mark.parametrize("temperature", [1.0, 0.7, torch.tensor([[0.5], [1.5]])])
@pytest.mark.parametrize("case", CASES)
def test_equals_the_log_probabilities(case, temperature):
    head = some_head(case)
    hidden, target = some_tokens(2, 3)
    options = {"temperature": temperature, "chunk_size": 2}
    got = head.token_outputs(hidden, target, ALL, **options)
    parameters = list(head.parameters())
    high = some_head(case).double()
    want = of_log_probs(high.log_probs(hidden.double()), target, temperature)
    for name in ALL:
        assert getattr(got, name).shape == target.shape
        close(getattr(got, name), getattr(want, name), name)
    ours = torch.autograd.grad((got.log_prob + 0.5 * got.entropy).sum(), parameters)
    total = (want.log_prob + 0.5 * want.entropy).sum()
    names = [name for name, _ in head.named_parameters()]
    for name, mine, exact in zip(
        names, ours, torch.autograd.grad(total, list(high.parameters())), strict=True
    ):
        close(mine, exact, name)


def test_the_function_and_the_method_are_one():
    head = some_head("wide moss")
    hidden, target = some_tokens()
    one = head.token_outputs(hidden, target, ("entropy", "log_prob"))
    other = wn.token_outputs(head, hidden, target, outputs=["log_prob", "entropy"])
    assert isinstance(one, wn.TokenOutputs)
    assert torch.equal(one.log_prob, other.log_prob)
    assert torch.equal(one.entropy, other.entropy)
    assert torch.equal(one.log_prob, -head.nll(hidden, target)) or torch.allclose(
        one.log_prob, -head.nll(hidden, target)
    )
    with pytest.raises(wn.WideneckError, match="hidden states and their targets"):
        wn.token_outputs(head, hidden, labels=target)
    with pytest.raises(wn.WideneckError, match=r"call wideneck\.attach"):
        wn.token_outputs(torch.nn.Linear(4, V), input_ids=target, labels=target)


def test_a_mask_of_dropout_is_drawn_once():
    """Of a mixture in training: one mask for log-probability and entropy, forward and backward."""
    head = wn.heads.build("mos", hidden_size=4, vocab_size=V, dropout=0.5).train()
    hidden, target = some_tokens(2, 3)
    torch.manual_seed(3)
    got = head.token_outputs(hidden, target, ("log_prob", "entropy"), temperature=1.5)
    torch.manual_seed(3)
    want = of_log_probs(head.log_probs(hidden), target, 1.5)
    close(got.entropy, want.entropy, "entropy")
    weight = head.weight
    mine = torch.autograd.grad(got.entropy.sum(), weight)[0]
    close(mine, torch.autograd.grad(want.entropy.sum(), weight)[0], "gradient")
