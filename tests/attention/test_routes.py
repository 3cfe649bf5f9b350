"""Every route of every normalizer against all scores at once, and those against loops."""

import math
import sys
import types
from dataclasses import replace
from functools import partial

import pytest
import torch
from calls import (
    CALLS,
    OPTIONS,
    B,
    D,
    G,
    H,
    Q,
    a_call,
    by_loops,
    learned,
    on_gpu,
    with_gradients,
)
from torch.nn.attention.flex_attention import create_block_mask

from wideneck.attention import flex, names, routes, sink_kernels, splash
from wideneck.attention.config import NORMALIZERS, normalizer_config
from wideneck.attention.dense import formed_attention
from wideneck.attention.routes import FEW, choose
from wideneck.attention.sdpa import sdpa_attention
from wideneck.errors import WideneckError

NAMES = names()
SOFTMAXES = [name for name, config in NORMALIZERS.items() if config.fused]
OF_EACH_SCORE = [*SOFTMAXES, "sigmoid", "relu"]


def at_once(call, config):
    return formed_attention(call, config)[0]


def configured(name):
    return normalizer_config(name, **OPTIONS.get(name, {}))


def assert_same(ours, theirs, rounding=1e-9):
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.isfinite().all()
        torch.testing.assert_close(mine, other.to(mine.dtype), rtol=rounding, atol=rounding)


@pytest.mark.parametrize("kind", ["causal", "padded", "per head"])
@pytest.mark.parametrize("name", NAMES)
def test_all_scores_at_once_are_the_definition_row_by_row(name, kind):
    call, config = a_call(kind), configured(name)
    assert (at_once(call, config) - by_loops(call, config)).abs().max() < 1e-12


@pytest.mark.parametrize("sink", [False, True])
@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("name", SOFTMAXES)
def test_sdpa_has_the_output_and_every_gradient(name, kind, sink):
    if name == "topk" and sink:
        assert "own sink" in routes.why_not_sdpa(a_call(kind, sink=True), configured(name))
        return
    call, (config, numbers) = a_call(kind, sink=sink), learned(name)
    given = (call, config, numbers)
    # PyTorch keeps log-normalizers of float64 in float64, the sink's share is float64, too.
    assert_same(with_gradients(sdpa_attention, *given), with_gradients(at_once, *given), 1e-6)


# FlexAttention by formulas: its kernel runs no backward pass on a CPU.


def by_hand(call, config):
    """FlexAttention's definition, on dense scores: a softmax of what `score_mod` makes of them."""
    key, value = (x.repeat_interleave(H // G, 1) for x in (call.key, call.value))
    factor = config.factor(flex.num_visible(call)) if config.is_scaled else 1.0
    scores = call.query * factor @ key.mT * call.scaling
    sizes = scores.shape
    b, h, q, k = (
        torch.arange(n).view([-1 if i == place else 1 for i in range(4)])
        for place, n in enumerate(sizes)
    )
    kind, row = flex.kind_of(config), flex.row_numbers(call, config)
    changed = flex.score_mod(kind, row, call.mask)(scores, b, h, q, k)
    if call.causal:
        changed = torch.where(q >= k, changed, -torch.inf)
    lse = changed.logsumexp(-1)
    weights = (changed - lse.where(lse > -torch.inf, 0.0)[..., None]).exp()
    return flex.shared(weights @ value, lse, call, config, factor)


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("name", OF_EACH_SCORE)
def test_flex_s_functions_of_a_score_have_the_output_and_every_gradient(name, kind):
    call, (config, numbers) = a_call(kind), learned(name)
    given = (call, config, numbers)
    # A threshold of top-k lies a few roundings of float32 lower, which lets no other key in here.
    assert_same(with_gradients(by_hand, *given), with_gradients(at_once, *given))


@pytest.mark.parametrize("name", ["softmax", "ssmax", "softmax1", "sink"])
def test_flex_knows_sinks_of_the_model(name):
    call, (config, numbers) = a_call("padded", sink=True), learned(name)
    given = (call, config, numbers)
    assert_same(with_gradients(by_hand, *given), with_gradients(at_once, *given))


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
@pytest.mark.parametrize(
    ("name", "kind"),
    [("sigmoid", "causal"), ("relu", "padded"), ("topk", "per head"), ("sink", "padded")],
)
def test_flex_attention_itself_gives_the_output(name, kind, monkeypatch):
    """Uncompiled, which forms the scores but goes the same way otherwise."""
    monkeypatch.setattr(flex, "_kernel", flex.run)
    call = a_call(kind, torch.float32)
    tensors = {name: getattr(call, name).detach() for name in ("query", "key", "value")}
    call, config = replace(call, **tensors), configured(name)
    found = flex.flex_attention_of(call, config)
    torch.testing.assert_close(found, at_once(call, config), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("length", [1, 128, 300])
def test_blocks_of_a_causal_call_are_those_of_its_mask(length):
    found = flex._causal_blocks(length, torch.device("cpu"))
    want = create_block_mask(lambda b, h, q, k: q >= k, None, None, length, length, device="cpu")
    assert torch.equal(found.to_dense(), want.to_dense())
    assert torch.equal(found.full_kv_num_blocks, want.full_kv_num_blocks)
    assert found.shape == want.shape


def test_a_key_as_good_as_the_kth_stays_in_whatever_rounding_says():
    """Scores that are equal in exact numbers, summed in another order."""
    call = a_call("causal", torch.float32)
    key = call.key.detach()[..., torch.randperm(D, generator=torch.Generator().manual_seed(0))]
    order = torch.randperm(D, generator=torch.Generator().manual_seed(0))
    least = flex.row_numbers(call, normalizer_config("topk", k=3))
    again = replace(call, query=call.query.detach()[..., order], key=key)
    keys = again.key.repeat_interleave(H // G, 1)
    scores = (again.query @ keys.mT * call.scaling).masked_fill(
        torch.ones(Q, Q, dtype=torch.bool).triu(1), -torch.inf
    )
    kept = (scores.isfinite() & (scores >= least[..., None])).sum(-1)
    assert torch.equal(kept, torch.arange(1, Q + 1).clamp(max=3).expand(B, H, Q))


# PyTorch's kernels for GPUs, by stand-ins with their signatures.


def stand_in(query, key, value, bias, is_causal, scale):
    groups = query.shape[1] // key.shape[1]
    scores = query @ key.repeat_interleave(groups, 1).mT * scale
    if bias is not None:
        scores = scores + bias
    if is_causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:]).triu(1) > 0, -torch.inf)
    return scores, value.repeat_interleave(groups, 1)


def out_and_lse(*given):
    """As those of a GPU: +inf for a row that sees nothing."""
    scores, value = stand_in(*given)
    lse = scores.logsumexp(-1)
    lse = lse.where(lse > -torch.inf, torch.inf)
    return (scores - lse[..., None]).exp() @ value, lse.float()


def backward(grad, query, key, value, bias, out, lse, is_causal, scale):
    """From out and L alone, as the kernels do: what they are handed has to be consistent."""
    scores, values = stand_in(query, key, value, bias, is_causal, scale)
    weights = (scores - lse[..., None]).exp()
    row = (grad * out).sum(-1, keepdim=True)
    to_scores = weights * (grad @ values.mT - row) * scale
    groups = query.shape[1] // key.shape[1]
    keys = key.repeat_interleave(groups, 1)

    def shared(x):
        return x.unflatten(1, (-1, groups)).sum(2)

    return to_scores @ keys, shared(to_scores.mT @ query), shared(weights.mT @ grad)


def flash(query, key, value, dropout_p, is_causal, debug, *, scale):
    assert (dropout_p, debug) == (0.0, False)
    out, lse = out_and_lse(query, key, value, None, is_causal, scale)
    return out, lse, "q", "k", Q, Q + 1, "seed", "offset", None


def flash_backward(grad, query, key, value, out, lse, *rest, scale):
    assert rest[:5] == ("q", "k", Q, Q + 1, 0.0)
    assert rest[6:] == ("seed", "offset")
    return backward(grad, query, key, value, None, out, lse, rest[5], scale)


def efficient(query, key, value, bias, compute_lse, dropout_p, is_causal, *, scale):
    assert (compute_lse, dropout_p) == (True, 0.0)
    assert key.shape[1] == query.shape[1]
    assert bias is None or (bias.shape == (B, H, Q, Q) and bias.stride(-2) % 16 == 0)
    out, lse = out_and_lse(query, key, value, bias, is_causal, scale)
    return out, torch.nn.functional.pad(lse, (0, -Q % 32), value=torch.nan), "seed", "offset"


def efficient_backward(grad, query, key, value, bias, out, lse, *rest, scale):
    assert rest[:4] == ("seed", "offset", 0.0, [True, True, True, False])
    assert lse.shape == (B, H, 32)
    grads = backward(grad, query, key, value, bias, out, lse[..., :Q], rest[4], scale)
    return *grads, None


@pytest.mark.parametrize("sink", [False, True])
@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("kernel", [sink_kernels.FLASH, sink_kernels.EFFICIENT])
def test_sinks_on_a_gpu_have_the_output_and_every_gradient(kernel, kind, sink, monkeypatch):
    if kernel is sink_kernels.FLASH and kind not in ("all", "causal"):
        return  # it takes no mask
    for name in ("flash", "flash_backward", "efficient", "efficient_backward"):
        monkeypatch.setattr(sink_kernels, f"_{name}", globals()[name])
    monkeypatch.setattr("wideneck.attention.sink_attention.kernel_of", lambda *_: kernel)
    for normalizer in ("sink", "softmax1"):
        call, (config, numbers) = a_call(kind, sink=sink), learned(normalizer)
        given = (call, config, numbers)
        assert_same(with_gradients(sdpa_attention, *given), with_gradients(at_once, *given), 1e-5)


MASK = torch.ones(1, 1, 256, 256, dtype=torch.bool)


@pytest.mark.usefixtures("gpu")
def test_kernels_of_sinks_are_those_that_take_the_call():
    def of(call):
        return sink_kernels.kernel_of(call.query, call.key, call.value, call.mask)

    assert of(on_gpu()) is sink_kernels.FLASH
    assert of(on_gpu(mask=MASK, causal=False)) is sink_kernels.EFFICIENT
    assert of(on_gpu(torch.float32)) is sink_kernels.EFFICIENT
    assert of(on_gpu(value_width=32)) is sink_kernels.EFFICIENT
    assert of(on_gpu(width=60)) is None
    assert of(on_gpu(torch.float64)) is None
    assert of(a_call()) is sink_kernels.CPU


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("name", "options", "route"),
    [
        ("temperature", {}, "sdpa"),
        ("ssmax", {}, "sdpa"),
        ("sink", {}, "sdpa"),
        ("sink", {"width": 60}, "flex"),
        ("topk", {}, "flex"),
        ("topk", {"length": 100}, "sdpa"),
        ("topk", {"dropout": 0.1}, "sdpa"),
        ("sigmoid", {}, "flex"),
        ("relu", {"mask": MASK, "causal": False}, "flex"),
        ("relu", {"length": 127}, "dense"),
        ("sigmoid", {"dropout": 0.1}, "dense"),
        ("sigmoid", {"softcap": 30.0}, "dense"),
        ("sigmoid", {"dtype": torch.float64}, "dense"),
        ("sigmoid", {"width": 8}, "dense"),
        ("relu", {"value_width": 8}, "dense"),
        ("entmax15", {}, "adasplash"),
        ("sparsemax", {}, "adasplash"),
        ("entmax15", {"causal": False}, "adasplash"),
        ("entmax15", {"width": 80}, "dense"),
        ("entmax15", {"dtype": torch.float64}, "dense"),
        ("entmax15", {"mask": MASK, "causal": False}, "dense"),
        ("entmax15", {"softcap": 30.0}, "dense"),
        ("entmax15", {"dropout": 0.1}, "dense"),
        ("stickbreaking", {}, "dense"),
        ("softpick", {}, "dense"),
    ],
)
def test_routes_on_a_gpu(name, options, route):
    config = configured(name)
    assert choose(on_gpu(**options), config).name == route
    sink = torch.zeros(4, 1, 1)
    beside = choose(on_gpu(**options, sink=sink), config).name
    assert beside == (route if config.fused and name != "topk" else "dense")


@pytest.mark.usefixtures("gpu")
def test_entmax_of_a_learned_alpha_or_one_above_2_is_dense():
    learning, _ = learned("entmax")
    assert "learned" in choose(on_gpu(), learning).why_not["adasplash"]
    wide = normalizer_config("entmax", alpha=2.5, learned=False)
    assert "up to 2" in choose(on_gpu(), wide).why_not["adasplash"]
    fixed = normalizer_config("entmax", alpha=1.3, learned=False)
    assert choose(on_gpu(), fixed).name == "adasplash"


@pytest.mark.parametrize(
    ("installed", "is_there"),
    [(None, False), ("0.1.1", False), ("0.2.2", True), ("0.3rc1", True), ("1", True)],
)
def test_adasplash_that_is_missing_or_old_is_named(installed, is_there, monkeypatch):
    def version(name):
        if installed is None:
            raise splash.PackageNotFoundError(name)
        return installed

    monkeypatch.setattr(splash, "version", version)
    assert splash.is_there() == is_there
    route = choose(on_gpu(), configured("entmax15"))
    assert route.name == ("adasplash" if is_there else "dense")
    if not is_there:
        assert "pip install adasplash" in route.why_not["adasplash"]
        with pytest.raises(WideneckError, match=r"kernel='adasplash' .*is not installed"):
            choose(on_gpu(), configured("entmax15"), "adasplash")


@pytest.mark.parametrize("name", NAMES)
def test_on_a_cpu_softmaxes_are_fused_and_the_rest_says_why_it_is_not(name):
    route = choose(a_call(num_queries=Q), configured(name))
    assert route.name == ("sdpa" if NORMALIZERS[name].fused else "dense")
    if route.name == "dense":
        assert list(route.why_not) == ["sdpa", "flex", "adasplash"]
        assert str(route).startswith(f"dense (not sdpa: {name} is no softmax")


@pytest.mark.usefixtures("gpu")
def test_a_route_that_is_named_is_taken_or_refused():
    config = configured("sigmoid")
    assert choose(on_gpu(), config, "flex").name == "flex"
    assert choose(on_gpu(), config, "dense") == routes.Route("dense")
    short = choose(on_gpu(length=1), config, "flex")
    assert (short.name, short.why_not) == ("dense", {"flex": FEW})
    for kernel, name, options, why in (
        ("sdpa", "sigmoid", {}, "sigmoid is no softmax"),
        ("flex", "sigmoid", {"dropout": 0.1}, "no dropout"),
        ("flex", "sparsemax", {}, "all scores of a query at once"),
        ("adasplash", "sink", {}, "no entmax"),
        ("adasplash", "entmax15", {"mask": MASK}, "no masks"),
    ):
        with pytest.raises(WideneckError, match=f"kernel='{kernel}' was asked for.*{why}"):
            choose(on_gpu(**options), configured(name), kernel)


# adasplash by a stand-in with its limits: the package needs a GPU.


def splashing(q, k, v, alpha, is_causal, varlen, niter):
    assert niter == splash.ITERATIONS
    length, width = q.shape[2:]
    assert all(x.is_contiguous() for x in (q, k, v))
    assert length & (length - 1) == 0
    assert length >= 64
    visible = torch.ones(length, length, dtype=torch.bool)
    visible = visible.tril() if is_causal else visible
    if varlen is not None:
        assert varlen.dtype == torch.int32
        visible = visible & (torch.arange(length) < varlen[:, None, None, None])
    groups = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(groups, 1) for x in (k, v))
    config = normalizer_config("entmax", alpha=alpha, learned=False)
    return config.weights(q @ k.mT / math.sqrt(width), visible) @ v


def first(q, k, v, alpha, is_causal, varlen, niter):
    assert q.shape[1] == k.shape[1]
    assert alpha != 1.5 or not is_causal  # for which there is a faster one
    return splashing(q, k, v, alpha, is_causal, varlen, niter)


@pytest.mark.parametrize("kind", ["causal", "all"])
@pytest.mark.parametrize("name", ["entmax15", "sparsemax", "asentmax", "entmax"])
def test_adasplash_is_given_what_it_takes(name, kind, monkeypatch):
    second = partial(splashing, alpha=1.5, is_causal=True, varlen=None)
    package = types.SimpleNamespace(adasplash_v1=first, adasplash_v2=second)
    monkeypatch.setitem(sys.modules, "adasplash", package)
    call, (config, numbers) = a_call(kind, scaling=0.21), learned(name)
    if name == "entmax":
        config, numbers = normalizer_config("entmax", alpha=1.3, learned=False), []
    given = (call, config, numbers)
    assert_same(with_gradients(splash.splash_attention, *given), with_gradients(at_once, *given))
