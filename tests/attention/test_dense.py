"""Attention by blocks of queries against all scores at once, which test_routes.py has loops for."""

from dataclasses import replace

import pytest
import torch
from calls import CALLS, Q, a_call, inputs_of, learned, masks, with_gradients

from wideneck.attention import dense, names
from wideneck.attention.config import normalizer_config
from wideneck.attention.dense import dense_attention, formed_attention, weights_of

NAMES = names()


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Three queries of some heads."""
    monkeypatch.setattr(dense, "KEPT", 0)
    monkeypatch.setitem(dense.BLOCK, "cpu", 100)
    monkeypatch.setattr(dense, "ROWS", 3)


def at_once(call, config):
    return formed_attention(call, config)[0]


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("name", NAMES)
def test_blocks_give_the_output_and_every_gradient(name, kind):
    call = a_call(kind)
    config, numbers = learned(name)
    given = (call, config, numbers)
    for ours, theirs in zip(
        with_gradients(dense_attention, *given), with_gradients(at_once, *given), strict=True
    ):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert ours.isfinite().all()
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("limit", [1, 44, 200, 2**20])
def test_blocks_of_any_size_are_the_whole(limit, monkeypatch):
    """From one query of the heads that share a key to both sequences at once."""
    monkeypatch.setitem(dense.BLOCK, "cpu", limit)
    monkeypatch.setattr(dense, "ROWS", 1)
    for kind in CALLS:
        call, (config, numbers) = a_call(kind), learned("asentmax")
        given = (call, config, numbers)
        pairs = zip(
            with_gradients(dense_attention, *given), with_gradients(at_once, *given), strict=True
        )
        for ours, theirs in pairs:
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("options", [{"softcap": 1.5}, {"scaling": 0.2}, {"sink": True}])
@pytest.mark.parametrize("name", ["ssmax", "entmax15", "stickbreaking"])
def test_caps_scales_and_sinks_of_the_model_hold_in_blocks(name, options):
    call, (config, numbers) = a_call("padded", **options), learned(name)
    given = (call, config, numbers)
    pairs = zip(
        with_gradients(dense_attention, *given), with_gradients(at_once, *given), strict=True
    )
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["sigmoid", "entmax15"])
def test_second_derivatives_where_keys_are_values_and_make_the_queries(name):
    """As in layers that share one projection: each part has its own derivative, counted once."""
    results = []
    for function in (dense_attention, at_once):
        call, (config, _) = a_call("causal"), learned(name)
        shared = call.key.detach().requires_grad_()
        key = 0.3 * shared
        call = replace(call, query=key.repeat_interleave(2, 1), key=key, value=key)
        loss = function(call, config).square().sum()
        (first,) = torch.autograd.grad(loss, shared, create_graph=True)
        results.append((first, *torch.autograd.grad(first.square().sum(), shared)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_no_sequences_and_no_queries_give_empty_outputs(name):
    call = a_call("all")
    for queries in (call.query[:0], call.query[:, :, :0]):
        rows = len(queries)
        few = replace(call, query=queries, key=call.key[:rows], value=call.value[:rows])
        assert dense_attention(few, normalizer_config(name)).shape == queries.shape


@pytest.mark.parametrize("name", ["ssmax", "entmax", "sigmoid"])
def test_second_derivatives_are_those_of_all_scores(name):
    results = []
    for function in (dense_attention, at_once):
        call, (config, numbers) = a_call("causal"), learned(name)
        first = function(call, config).square().sum()
        inputs = [*inputs_of(call), *numbers]
        grads = torch.autograd.grad(first, inputs, create_graph=True)
        results.append(torch.autograd.grad(sum(g.square().sum() for g in grads), inputs))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)


def test_what_is_kept_for_the_backward_pass_is_what_came_in():
    """Not a byte that grows with the number of scores."""
    call, (config, _) = a_call("causal"), learned("entmax15")
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        dense_attention(call, config).sum()
    assert {id(x) for x in kept} == {id(x) for x in inputs_of(call)}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_lower_precision_is_summed_over_blocks_in_float32(dtype):
    call, (config, _) = a_call("causal", dtype), learned("entmax15", dtype)
    wide = a_call("causal")
    exact = with_gradients(at_once, replace(wide, **{
        name: getattr(call, name).detach().double().requires_grad_()
        for name in ("query", "key", "value")
    }), learned("entmax15")[0])  # fmt: skip
    ours = with_gradients(dense_attention, call, config)
    naive = with_gradients(at_once, call, config)
    eps = torch.finfo(dtype).eps
    for mine, other, right in zip(ours, naive, exact, strict=True):
        assert mine.dtype == dtype
        bound = 1.5 * (other.double() - right).abs().max() + eps * right.abs().max()
        assert (mine.double() - right).abs().max() <= bound


def test_dropout_drops_the_same_weights_in_both_passes():
    """The output is linear in the values: so are the gradients, of what was kept."""
    call, config = a_call("all", dropout=0.4), normalizer_config("sparsemax")
    torch.manual_seed(0)
    out = dense_attention(call, config)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(4)).to(out.dtype)
    (to_value,) = torch.autograd.grad(out, call.value, upstream)
    linear = (to_value * call.value).sum().item(), (out * upstream).sum().item()
    assert linear[0] == pytest.approx(linear[1])
    whole = dense_attention(replace(call, dropout=0.0), config)
    assert not torch.allclose(out, whole)
    assert not torch.equal(out, dense_attention(call, config))  # drawn anew


def test_dropout_of_everything_leaves_nothing():
    call, config = a_call("causal", dropout=1.0), normalizer_config("sigmoid")
    assert all(not found.any() for found in with_gradients(dense_attention, call, config))


def test_dropout_keeps_its_share_and_the_mean():
    call, config = a_call("all", dropout=0.3), normalizer_config("sigmoid", bias=0.0)
    one = {n: getattr(call, n)[:1].detach().expand(400, -1, -1, -1) for n in ("query", "key")}
    value = torch.eye(Q, dtype=torch.float64).expand(400, 2, Q, Q)  # the output is the weights
    call = replace(call, **one, value=value)
    torch.manual_seed(0)
    shares = dense_attention(call, config) / weights_of(replace(call, dropout=0.0), config)
    assert ((shares == 0) | ((shares - 1 / 0.7).abs() < 1e-9)).all()
    assert (shares == 0).double().mean().item() == pytest.approx(0.3, abs=0.005)


def test_a_backward_pass_under_autocast_has_the_same_gradients():
    call, (config, _) = a_call("causal", torch.float32), learned("entmax15", torch.float32)
    expected = with_gradients(dense_attention, call, config)
    out = dense_attention(call, config)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = torch.autograd.grad(out, inputs_of(call), upstream)
    assert all(torch.equal(*pair) for pair in zip(found, expected[1:], strict=True))


def test_keys_that_no_query_of_a_block_sees_are_left_out():
    call = a_call("window")
    assert [b.keys for b in dense._blocks(call)][:1] == [slice(0, dense.ROWS)]
    for block in dense._blocks(call):
        assert block.keys.stop == block.queries.stop
        assert block.keys.start == max(0, block.queries.start - 2)
    nothing = replace(call, mask=torch.zeros_like(masks()["window"]))
    assert torch.equal(dense_attention(nothing, normalizer_config("entmax15")), 0 * call.query)


def test_functions_of_functions_see_all_scores():
    call, config = a_call("causal"), normalizer_config("entmax15")

    def total(value):
        return dense_attention(replace(call, value=value), config).square().sum()

    (expected,) = torch.autograd.grad(total(call.value), call.value)
    torch.testing.assert_close(torch.func.grad(total)(call.value.detach()), expected)
