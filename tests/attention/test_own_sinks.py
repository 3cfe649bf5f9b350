"""Models with sinks of their own, as gpt-oss has: n + 1 scores, of which one is no key's."""

import math

import entmax as peer
import pytest
import torch
import transformers as tr
from calls import B, H, Q, a_call
from slow_rows import slow_row
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from usable import GROUPED, logits, shaken, tiny, token_ids, used

import wideneck as wn
from tiny_text import character_tokenizer, write_text
from wideneck.attention import names, routes_taken, use
from wideneck.attention.call import dense_scores, visible_keys
from wideneck.attention.config import normalizer_config
from wideneck.attention.dense import weights_of
from wideneck.attention.foils import sharpening
from wideneck.audits.attention.collect import Collector
from wideneck.audits.attention.reading import watched


def with_sink(name, b, keys):
    """Weights of the keys, by each definition with one more score b and n = len(keys)."""
    n, row = len(keys), [b, *keys]
    spread = slow_row("softmax", row)
    entropy = -sum(p * math.log(p) for p in spread)
    beta = float(sharpening(torch.tensor(entropy, dtype=torch.float64)))
    scaled = {
        "softmax": 1.0,
        "temperature": 1 / 0.7,
        "ssmax": 0.4 * math.log(n) + 0.3,
        "logn": math.log(n),
        "adaptivetemperature": beta,
    }
    if name in scaled:
        return slow_row("softmax", [scaled[name] * x for x in row])[1:]
    if name in ("softmax1", "sink"):
        return slow_row("softmax", [*row, 0.0 if name == "softmax1" else 0.5])[1:-1]
    if name == "sigmoid":
        return [1 / (1 + math.exp(-x) * n) for x in keys]
    if name == "relu":
        return [max(x, 0.0) / n for x in keys]
    if name == "stickbreaking":  # the sink is the oldest: it takes what is left
        return slow_row(name, keys)
    if name == "asentmax":
        factor = 1 + math.log(2)
        return slow_row("entmax15", [factor * x for x in row])[1:]
    return slow_row(name, row, k=3, alpha=1.3)[1:]


@pytest.mark.parametrize("kind", ["causal", "padded", "all"])
@pytest.mark.parametrize("name", names())
def test_normalizers_act_on_one_more_score_and_count_keys(name, kind):
    options = {
        "topk": {"k": 3},
        "ssmax": {"scale": 0.4, "bias": 0.3},
        "sink": {"logit": 0.5},
        "temperature": {"temperature": 0.7},
        "entmax": {"alpha": 1.3},
    }
    call = a_call(kind, sink=True)
    found = weights_of(call, normalizer_config(name, **options.get(name, {}))).detach()
    assert found.shape == (B, H, Q, Q)
    keys = call.key.repeat_interleave(2, 1)
    scores = (call.query @ keys.mT * call.scaling).detach()
    for b, h, q in ((0, 0, 0), (0, 1, 5), (1, 2, 10), (1, 3, 6)):
        seen = torch.ones(Q, dtype=torch.bool)
        if kind != "all":
            seen = torch.arange(Q) <= q
        if kind == "padded" and b == 0:
            seen &= torch.arange(Q) >= 4
        want = torch.zeros(Q, dtype=torch.float64)
        row = scores[b, h, q, seen].tolist()
        if row:
            sink = float(call.sink[h].detach())
            want[seen] = torch.tensor(with_sink(name, sink, row), dtype=torch.float64)
        assert (found[b, h, q] - want).abs().max() < 1e-12


@pytest.mark.parametrize("kernel", ["auto", "dense", "sdpa"])
def test_a_softmax_of_ours_beside_its_sinks_is_the_model(kernel):
    made, ids = tiny("gpt-oss"), token_ids()
    expected = logits(made, ids)
    use(made, "temperature", kernel=kernel)
    torch.testing.assert_close(logits(made, ids), expected, rtol=0, atol=1e-5)
    routes = {str(route) for route in routes_taken(made).values()}
    assert routes == {"dense" if kernel == "dense" else "sdpa"}
    made.model.layers[0].self_attn.sinks.data.add_(3)
    assert (logits(made, ids) - expected).abs().max() > 1e-3


MIMO = {
    "head_dim": 16,
    "v_head_dim": 8,
    "swa_head_dim": 16,
    "swa_v_head_dim": 8,
    "swa_num_attention_heads": 4,
    "swa_num_key_value_heads": 2,
    "sliding_window": 5,
    "n_routed_experts": 2,
    "num_experts_per_tok": 1,
    "moe_intermediate_size": 16,
}
"""Sinks in layers with a window alone; values are narrower than keys, which no CPU kernel takes."""


@pytest.mark.parametrize(("family", "options"), [("mimo_v2_flash", MIMO), ("granite_swa", {})])
def test_other_families_with_sinks_are_themselves_under_a_softmax_of_ours(family, options):
    if family not in CONFIG_MAPPING:
        pytest.skip(f"this version of transformers has no {family}")
    torch.manual_seed(0)
    config = tr.AutoConfig.for_model(family, **GROUPED, **options)
    made, ids = tr.AutoModelForCausalLM.from_config(config).eval(), token_ids()
    sinks = [x for name, x in made.named_parameters() if name.endswith(".sinks")]
    assert sinks
    for parameter in sinks:
        parameter.data.normal_()
    expected = logits(made, ids)
    for kernel in ("auto", "dense"):
        use(made, "temperature", kernel=kernel)
        torch.testing.assert_close(logits(made, ids), expected, rtol=0, atol=1e-5)
    assert (logits(use(made, "sparsemax"), ids) - expected).abs().max() > 1e-4
    assert torch.equal(logits(use(made, "softmax"), ids), expected)


@pytest.mark.parametrize("name", ["sink", "entmax15", "sigmoid"])
def test_its_sinks_get_gradients_where_the_normalizer_looks_at_them(name):
    made, ids = used("gpt-oss", name).train(), token_ids()
    made(input_ids=ids, labels=ids).loss.backward()
    grads = [layer.self_attn.sinks.grad for layer in made.model.layers]
    for grad in grads:
        seen = grad is not None and bool(grad.any())
        assert seen == (name != "sigmoid")  # of which every key has its weight by itself


def test_it_is_saved_loaded_and_generates(tmp_path):
    made, ids = shaken(used("gpt-oss", "ssmax")), token_ids((1, 6))
    made.save_pretrained(tmp_path)
    loaded = wn.load(tmp_path)
    assert torch.equal(logits(loaded, ids), logits(made, ids))
    options = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None}
    mask = torch.ones_like(ids)
    tokens = loaded.generate(ids, attention_mask=mask, **options)
    for i in range(6, 11):
        best = logits(made, tokens[:, :i])[:, -1]
        assert best[0, tokens[0, i]] >= best.max() - 1e-4


def test_it_takes_a_head_generates_is_saved_and_loaded(tmp_path):
    plain, ids = tiny("gpt-oss"), token_ids((1, 6))
    made = wn.attach(tiny("gpt-oss"), "softmax")
    expected = logits(plain, ids).log_softmax(-1)
    torch.testing.assert_close(logits(made, ids), expected, rtol=0, atol=1e-4)
    made.save_pretrained(tmp_path)
    loaded = wn.load(tmp_path)
    assert torch.equal(logits(loaded, ids), logits(made, ids))
    options = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None}
    mask = torch.ones_like(ids)
    ours, theirs = (x.generate(ids, attention_mask=mask, **options) for x in (loaded, plain))
    assert torch.equal(ours, theirs)


def test_a_sink_for_another_number_of_heads_is_one_sentence():
    made = used("gpt-oss", "ssmax")
    layer = made.model.layers[0].self_attn
    layer.sinks = torch.nn.Parameter(torch.zeros(3))
    with pytest.raises(wn.WideneckError, match=r"'s_aux' of shape \(3,\): expected one number"):
        logits(made, token_ids())


SHORT = wn.AttentionSettings(
    context=24, num_windows=2, num_queries=6, sizes=(2, 5), reference_size=2, ablation_context=12
)


@pytest.mark.parametrize("normalizer", [None, "entmax15"])
def test_the_audit_has_the_weights_of_the_keys_beside_the_sink(normalizer, tmp_path):
    made, text = tiny("gpt-oss"), write_text(tmp_path / "text.txt")
    if normalizer is not None:
        use(made, normalizer)
    how = {"tokenizer": character_tokenizer(), "attention": SHORT}
    found = wn.audit(made, text, "attention", **how).attention
    assert found is not None
    assert found.normalizer == f"{normalizer or 'softmax'} with sinks"
    assert found.route.startswith("dense (not sdpa" if normalizer else "the model's own (")
    assert found.by_step == []
    assert all(head.ablation is not None for head in found.heads)
    if normalizer is None:
        found = wn.audit(made, text, "attention", normalizers=("relu",), **how).attention
        assert found is not None
        told = [point.normalizer for point in found.comparison]
        assert told == ["softmax with sinks, the model's own", "relu with sinks"]
        assert found.comparison[1].route.startswith("dense (not sdpa: relu is no softmax")


def collected(model, ids):
    """What the audit sees of each layer, and the calls themselves."""
    collector, calls = Collector(SHORT, torch.arange(ids.shape[1]), seed=0), []

    def watcher(module, call, config):
        calls.append(call)
        return collector(module, call, config)

    with watched(model, watcher):
        model(input_ids=ids, use_cache=False)
    return list(collector.layers.values()), calls


def test_what_is_measured_is_what_transformers_forms():
    """Its own weights leave the sink out, as ours do: what is missing is the sink's."""
    made, ids = tiny("gpt-oss", attn_implementation="eager"), token_ids((1, 12))
    with torch.no_grad():
        theirs = made(input_ids=ids, output_attentions=True).attentions
    layers, _ = collected(made, ids)
    for layer, weights in zip(layers, theirs, strict=True):
        assert layer.has_sink
        p = weights[0].double()
        torch.testing.assert_close(layer.row_sum[0].double(), p.sum(-1), rtol=1e-5, atol=1e-6)
        assert (p.sum(-1) < 0.99).any()
        jacobians = torch.diag_embed(p) - p[..., :, None] * p[..., None, :]
        norms = torch.linalg.matrix_norm(jacobians, 2)
        torch.testing.assert_close(layer.jacobian[0][0].double(), norms, rtol=1e-4, atol=1e-6)


def test_the_jacobian_beside_a_sink_is_that_of_the_keys_of_n_plus_1_scores():
    made, ids = use(tiny("gpt-oss"), "entmax15"), token_ids((1, 12))
    layers, calls = collected(made, ids)
    call = calls[0]
    scores = dense_scores(call)[0, 1].detach().double()
    for q in (0, 3, 11):
        seen = visible_keys(call).reshape(12, 12)[q]
        row = torch.cat([call.sink[1, 0].detach().double(), scores[q, seen]])
        jacobian = torch.autograd.functional.jacobian(lambda x: peer.entmax15(x, -1), row)[1:, 1:]
        norm = float(torch.linalg.matrix_norm(jacobian, 2))
        assert float(layers[0].jacobian[0][0, 1, q]) == pytest.approx(norm, abs=1e-5)
