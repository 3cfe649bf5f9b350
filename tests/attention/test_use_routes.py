"""The attention function by itself: PyTorch's fused route against the dense one, and modules."""

import pytest
import torch
from torch import nn

from wideneck.attention import build, names, normalize
from wideneck.attention.config import NORMALIZERS
from wideneck.attention.forward import attention_forward, sdpa_mask

B, H, G, Q, D = 2, 4, 2, 11, 8
FUSED = [name for name, config in NORMALIZERS.items() if config.fused]
OPTIONS = {
    "topk": {"k": 3},
    "ssmax": {"scale": 0.4, "bias": 0.3},
    "sink": {"logit": 0.5},
    "temperature": {"temperature": 0.7},
}


def layer(name, causal=True, **options):
    module = nn.Module()
    module.normalizer = build(name, num_heads=H, **{**OPTIONS.get(name, {}), **options})
    module.is_causal = causal
    return module.eval()


def inputs(num_queries=Q, num_keys=Q, dtype=torch.float32):
    generator = torch.Generator().manual_seed(3)
    shapes = [(B, H, num_queries, D), (B, G, num_keys, D), (B, G, num_keys, D)]
    made = [(2 * torch.randn(shape, generator=generator)).to(dtype) for shape in shapes]
    return [x.requires_grad_() for x in made]


def padded():
    mask = torch.ones(B, 1, Q, Q, dtype=torch.bool).tril()
    mask[0, ..., :4] = False  # the first four queries see nothing
    return mask


CALLS = {
    "causal": {},
    "everything": {"is_causal": False},
    "padded": {"attention_mask": padded()},
    "one query": {"num_queries": 1},
    "scaled": {"scaling": 0.2},
    "static cache": {"num_keys": Q + 5},
}


def run(module, call, **options):
    options = {"attention_mask": None, **CALLS[call], **options}
    sizes = {k: options.pop(k) for k in ("num_queries", "num_keys") if k in options}
    given = inputs(**sizes)
    out, weights = attention_forward(module, *given, **options)
    learned = [*given, *module.parameters()]
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(4))
    return out, weights, torch.autograd.grad(out, learned, upstream)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", FUSED)
def test_the_fused_route_is_the_dense_one_forward_and_backward(name, call):
    module = layer(name)
    fused, none, gradients = run(module, call)
    dense, weights, expected = run(module, call, output_attentions=True)
    assert none is None
    assert weights.shape[:2] == (B, H)
    assert fused.is_contiguous()
    assert fused.shape[2:] == (H, D)
    torch.testing.assert_close(fused, dense, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(gradients, expected, strict=True):
        assert ours.isfinite().all()
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


# asentmax reads hidden states; its weights are those of entmax.
@pytest.mark.parametrize("name", [name for name in names() if name != "asentmax"])
def test_queries_that_see_nothing_give_zeros_and_pass_no_gradient(name):
    out, _, gradients = run(layer(name), "padded")
    assert torch.equal(out[0, :4], torch.zeros(4, H, D))
    assert torch.equal(gradients[0][0, :, :4], torch.zeros(H, 4, D))
    assert all(x.isfinite().all() for x in gradients)


@pytest.mark.parametrize("name", ["ssmax", "sink", "topk", "entmax15"])
def test_a_soft_cap_bends_the_scores_before_the_mask(name):
    module = layer(name)
    query, key, value = (x.detach() for x in inputs())
    out, _ = attention_forward(module, query, key, value, None, softcap=1.5)
    asked = {"softcap": 1.5, "output_attentions": True}
    _, weights = attention_forward(module, query, key, value, None, **asked)
    scores = query @ key.repeat_interleave(2, 1).mT * D**-0.5
    mask = torch.ones(Q, Q, dtype=torch.bool).tril()
    expected = normalize(1.5 * torch.tanh(scores / 1.5), module.normalizer.numbers(), mask)
    torch.testing.assert_close(weights, expected)
    torch.testing.assert_close(out, (expected @ value.repeat_interleave(2, 1)).transpose(1, 2))


@pytest.mark.parametrize("block", [1, 60, 2**22])
def test_top_k_in_blocks_is_top_k(block, monkeypatch):
    monkeypatch.setattr("wideneck.attention.sdpa.BLOCK", block)
    for call in CALLS:
        fused, _, _ = run(layer("topk"), call)
        dense, _, _ = run(layer("topk"), call, output_attentions=True)
        torch.testing.assert_close(fused, dense)


def test_the_number_of_visible_keys_is_that_of_the_mask():
    window = sdpa_mask(
        B, Q, Q, mask_function=lambda b, h, q, k: (k <= q) & (k > q - 3), local_size=3
    )
    query, key, value = (x.detach() for x in inputs())
    out, _ = attention_forward(layer("logn"), query, key, value, window)
    n = torch.arange(1, Q + 1).clamp(max=3)[:, None]
    scores = query @ key.repeat_interleave(2, 1).mT * D**-0.5 * n.log()
    weights = scores.masked_fill(~window, -torch.inf).softmax(-1)
    torch.testing.assert_close(out, (weights @ value.repeat_interleave(2, 1)).transpose(1, 2))


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("name", [name for name in names() if name != "asentmax"])
def test_dropout_is_that_of_the_weights(name, asked):
    """Of one key: what is kept is 1 / (1 - p) of it, and a share p of all is 0."""
    module = layer(name, causal=False).train()
    query, key, value = (x[:1].detach().expand(4000, -1, -1, -1) for x in inputs(1, 1))
    given = (query, key, value, None)
    torch.manual_seed(0)
    runs, _ = attention_forward(module, *given, dropout=0.3, output_attentions=asked)
    whole, _ = attention_forward(module.eval(), *given, dropout=0.3, output_attentions=asked)
    shares = runs[:, 0, :, 0] / whole[:, 0, :, 0]  # of each head
    seen = whole[0, 0, :, 0] != 0  # a relu may give a head nothing
    assert seen.any()
    kept = shares[:, seen]
    assert ((kept == 0) | ((kept - 1 / 0.7).abs() < 1e-5)).all()
    assert ((kept == 0).double().mean(0) - 0.3).abs().max() < 0.03  # four standard errors


def test_a_module_by_itself_is_the_function_with_parameters():
    scores = torch.randn(B, H, Q, Q, generator=torch.Generator().manual_seed(5))
    mask = torch.ones(Q, Q, dtype=torch.bool).tril()
    for name in names():
        module = build(name, num_heads=H, hidden_size=6, **OPTIONS.get(name, {}))
        hidden = torch.randn(B, Q, 6) if name == "asentmax" else None
        weights = module(scores, mask, hidden)
        expected = normalize(scores, name, mask, **OPTIONS.get(name, {}))
        torch.testing.assert_close(weights, expected, rtol=1e-5, atol=1e-6)
        assert repr(module).startswith("LearnedNormalizer(")
    learned = {name: [*build(name, num_heads=H).state_dict()] for name in ("sink", "entmax")}
    assert learned == {"sink": ["logit"], "entmax": ["raw_alpha"]}
    assert [*build("ssmax", num_heads=H).state_dict()] == ["scale"]
    assert not [*build("ssmax", num_heads=H, learned=False).parameters()]


def test_hidden_states_bend_asentmax_for_each_head_and_query():
    module = build("asentmax", num_heads=H, hidden_size=6)
    with torch.no_grad():
        module.beta.normal_(generator=torch.Generator().manual_seed(6))
        module.gamma.normal_(generator=torch.Generator().manual_seed(7))
    hidden = torch.randn(B, Q, 6, generator=torch.Generator().manual_seed(8))
    config = module.numbers(hidden)
    assert config.beta.shape == config.gamma.shape == (B, H, Q, 1)
    for b, h, q in ((0, 1, 2), (1, 3, 10)):
        w, v, x = module.beta[h], module.gamma[h], hidden[b, q]
        torch.testing.assert_close(config.beta[b, h, q, 0], torch.log1p((w @ x).exp()))
        torch.testing.assert_close(config.gamma[b, h, q, 0], 2 * torch.tanh(v @ x))


@pytest.mark.parametrize("name", ["sparsemax", "entmax15", "sigmoid", "stickbreaking"])
def test_scores_of_half_precision_are_formed_in_float32(name):
    """So that the weights have the rounding of their own type alone."""
    module = layer(name)
    given = [x.detach() for x in inputs(dtype=torch.bfloat16)]
    _, found = attention_forward(module, *given, None, output_attentions=True)
    exact = attention_forward(module, *(x.double() for x in given), None, output_attentions=True)[1]
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), exact, rtol=2**-8, atol=1e-6)
