"""The attention section: what it leaves as it was, what it refuses, and how it is cut.

What its numbers are is in test_attention_obvious.py.
"""

import math
from dataclasses import replace

import pytest
import torch
import transformers as tr
from transformers.models.llama.modeling_llama import LlamaAttention

from tiny import GPT2, LLAMA, V
from wideneck.attention import use
from wideneck.attention.call import Call
from wideneck.attention.config import normalizer_config
from wideneck.audits.attention.ablation import _mean_of_visible, ablation_losses
from wideneck.audits.attention.reading import Reader
from wideneck.audits.attention.section import audit_attention
from wideneck.audits.attention.settings import AttentionSettings
from wideneck.audits.clock import Clock
from wideneck.data import Windows
from wideneck.errors import WideneckError
from wideneck.models import LogitMap, read_head

T = 24
TWO = {"num_hidden_layers": 2}
MODELS = {
    "gpt2": lambda: tr.GPT2LMHeadModel(tr.GPT2Config(**GPT2 | {"n_layer": 2})),
    "llama": lambda: tr.LlamaForCausalLM(tr.LlamaConfig(**LLAMA | TWO)),
    "mistral": lambda: tr.MistralForCausalLM(tr.MistralConfig(**LLAMA | TWO, sliding_window=9)),
}
SETTINGS = AttentionSettings(
    context=T,
    num_windows=2,
    sizes=(1, 3, 8),
    reference_size=3,
    num_queries=None,
    ablation_context=0,
)


def model_of(name):
    torch.manual_seed(0)
    model = MODELS[name]()
    for parameter in model.parameters():  # or every attention row is nearly uniform
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def windows_of(num_windows=2, length=T):
    ids = torch.randint(V, (num_windows, length + 1), generator=torch.Generator().manual_seed(1))
    return Windows(
        ids=ids[:, :-1],
        targets=ids[:, 1:],
        document=torch.arange(num_windows),
        num_bytes=torch.ones(num_windows, dtype=torch.long),
    )


def audited(model, settings=SETTINGS, windows=None, **how):
    reader = Reader(model, LogitMap("identity"), read_head(model))
    return audit_attention(reader, windows or windows_of(), settings, Clock(), **how)


@pytest.mark.parametrize("name", MODELS)
def test_the_loss_is_the_models_own_and_the_model_is_left_as_it_was(name):
    model, windows = model_of(name), windows_of()
    before = model(windows.ids).logits.detach()
    audit = audited(model, normalizers=[normalizer_config("entmax15")])
    assert torch.equal(model(windows.ids).logits, before)
    nll = torch.nn.functional.cross_entropy(before.flatten(0, 1), windows.targets.flatten())
    assert audit.loss.value == pytest.approx(float(nll), rel=1e-5)
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("name", MODELS)
def test_a_head_is_replaced_by_the_mean_of_what_it_sees(name):
    """Against a model run without any skipping, whose output projection is fed by hand."""
    model, windows = model_of(name), windows_of()
    collected = []
    reader = Reader(model, LogitMap("identity"), read_head(model))
    layers = attention_of(model)
    base, found = ablation_losses(reader, dict.fromkeys(layers, 2), windows.ids, windows.targets)
    assert base.shape == (2, T)
    for index in (0, 1):
        for head in (0, 1):
            expected = by_hand(model, windows, index, head)
            collected.append((found[index][head] - expected).abs().max())
            assert (expected - base).abs().max() > 1e-3
    assert max(collected) < 1e-4


def attention_of(model):
    if isinstance(model, tr.GPT2LMHeadModel):
        return [block.attn for block in model.transformer.h]
    return [block.self_attn for block in model.model.layers]


def by_hand(model, windows, index, head):
    attention = attention_of(model)[index]
    is_gpt2 = isinstance(model, tr.GPT2LMHeadModel)
    projection = attention.c_proj if is_gpt2 else attention.o_proj
    value_layer = attention.c_attn if is_gpt2 else attention.v_proj
    window = getattr(model.config, "sliding_window", None) or T
    seen = torch.ones(T, T).tril().triu(1 - window)
    kept = {}

    def values(_module, _args, out):
        value = out.chunk(3, -1)[2][..., head * 8 : head * 8 + 8] if is_gpt2 else out
        kept["mean"] = seen @ value / seen.sum(1, keepdim=True)

    def replaced(_module, args):
        mixed = args[0].clone()
        mixed[..., head * 8 : head * 8 + 8] = kept["mean"]
        return (mixed,)

    handles = [
        value_layer.register_forward_hook(values),
        projection.register_forward_pre_hook(replaced),
    ]
    with torch.no_grad():
        logits = model(windows.ids).logits
    for handle in handles:
        handle.remove()
    return torch.nn.functional.cross_entropy(logits.mT, windows.targets, reduction="none")


def test_a_shorter_context_is_the_beginning_of_a_longer_one():
    model, windows = model_of("llama"), windows_of(1, 48)
    long = audited(model, replace(SETTINGS, context=48, num_windows=1), windows)
    start = replace(windows, ids=windows.ids[:, :32], targets=windows.targets[:, :32])
    short = audited(model, replace(SETTINGS, context=32, num_windows=1), start)
    assert [point.length for point in long.by_length] == [32, 48]
    (whole,) = short.by_length
    for name in ("distance", "bound", "expected_paper"):
        assert getattr(long.by_length[0], name) == pytest.approx(getattr(whole, name), rel=1e-4)
    assert long.by_length[0].effective_keys == whole.effective_keys


@pytest.mark.parametrize("wide", [0, 1])
def test_layers_may_have_different_numbers_of_heads(wide):
    torch.manual_seed(0)
    model = tr.LlamaForCausalLM(tr.LlamaConfig(**LLAMA | TWO, head_dim=8)).eval()
    model.config.num_attention_heads = 4
    model.model.layers[wide].self_attn = LlamaAttention(model.config, wide).eval()
    model.config.num_attention_heads = 2
    audit = audited(model)
    counts = (4, 2) if wide == 0 else (2, 4)
    assert audit.num_heads == 4
    places = [(layer, head + 1) for layer in (1, 2) for head in range(counts[layer - 1])]
    assert [(head.layer, head.head) for head in audit.heads] == places
    assert [len(heads) for heads in audit.by_size[0].distance_by_head] == [*counts]


def test_without_a_mask_a_head_is_replaced_by_the_mean_of_all_values():
    """As where a window is one token: it sees all keys that there are."""
    value = torch.randn(2, 1, 5, 3, generator=torch.Generator().manual_seed(0))
    query = torch.zeros(2, 4, 1, 3)
    call = Call(
        query=query,
        key=value,
        value=value,
        mask=None,
        causal=False,
        scaling=1.0,
        softcap=None,
        dropout=0.0,
    )
    found = _mean_of_visible(call)
    assert found.shape == (2, 4, 1, 3)
    torch.testing.assert_close(found, value.mean(2, keepdim=True).expand(2, 4, 1, 3))


def test_each_stage_tells_how_far_it_is_and_ends_where_all_is_done():
    calls = []
    how = {"normalizers": [normalizer_config("logn")], "progress": lambda *told: calls.append(told)}
    audited(model_of("llama"), replace(SETTINGS, ablation_context=8), **how)
    told = {name: [call[1:] for call in calls if call[0] == name] for name, *_ in calls}
    layers_of_windows = [(done, 4) for done in (1, 2, 3, 4)]
    heads_of_windows = [(done, 8) for done in (2, 4, 6, 8)]  # those of a layer at once
    assert told == {
        "attention heads": layers_of_windows,
        "replacing heads": heads_of_windows,
        "under logn": layers_of_windows,
    }


def test_a_sliding_window_is_what_its_queries_see():
    audit = audited(model_of("mistral"))
    assert all(head.effective_keys <= 9 for head in audit.heads)
    # N = 8 is below the window of 9: queries from the ninth on count.
    assert (audit.by_size[2].num_queries, audit.by_size[2].num_excluded) == (2 * (T - 8), 16)
    with pytest.raises(WideneckError, match="more than 12 keys"):
        audited(model_of("mistral"), replace(SETTINGS, sizes=(12,), reference_size=12))


def test_a_comparison_has_the_models_own_loss_first_and_leaves_no_trace():
    model, windows = model_of("llama"), windows_of()
    names = ("temperature", "sink", "ssmax", "sparsemax", "entmax", "asentmax", "stickbreaking")
    audit = audited(model, normalizers=[normalizer_config(name) for name in names])
    own, same, *others = audit.comparison
    assert own.change.value == 0
    assert own.loss == audit.loss
    assert same.change.value == pytest.approx(0, abs=1e-5)  # temperature 1
    assert all(abs(point.change.value) > 1e-4 for point in others)
    zeros = {point.normalizer.split()[0]: point.zeros for point in audit.comparison}
    assert zeros["sparsemax"] > zeros["entmax"] > 0 == zeros["ssmax"]
    use(model, "sparsemax")
    under = audited(model, windows=windows)
    assert under.normalizer == "sparsemax"
    assert under.loss.value == pytest.approx(others[2].loss.value, rel=1e-5)
    with pytest.raises(WideneckError, match="under sparsemax already"):
        audited(model, normalizers=[normalizer_config("sink")])


@pytest.mark.parametrize(
    "change",
    [
        {"vectors": "hidden"},
        {"vectors": "embeddings"},
        {"normalize_distance": True},
        {"normalize_geometry": False},
        {"include_masked": True},
        {"drop_first": True},
    ],
)
def test_each_choice_changes_the_geometry_and_is_named(change):
    model = model_of("llama")
    plain, changed = audited(model), audited(model, replace(SETTINGS, **change))
    geometry = [(h.distance, h.separability) for h in plain.heads]
    assert geometry != [(h.distance, h.separability) for h in changed.heads]
    assert changed.heads[0].entropy == plain.heads[0].entropy
    ((name, value),) = change.items()
    if name == "vectors":
        assert changed.vectors == value
    else:
        assert f"{name} = {value}" in changed.choices


def test_the_scan_reports_each_expectation():
    audit = audited(model_of("gpt2"), replace(SETTINGS, critical_up_to=10))
    assert [found.expectation for found in audit.critical] == ["monte_carlo", "paper", "upper"]
    assert all(len(found.statistics) == 10 for found in audit.critical)


def test_jacobians_are_below_their_limits():
    audit = audited(model_of("gpt2"))
    assert audit.jacobian_limit == 0.5
    assert all(0 < h.jacobian_spectral <= 0.5 for h in audit.heads)
    assert all(h.jacobian_spectral <= h.jacobian_frobenius * (1 + 1e-6) for h in audit.heads)
    assert all(p.largest_head <= p.bound for p in audit.by_step)
    assert {p.temperature for p in audit.by_step} >= {audit.temperature}


@pytest.mark.parametrize(
    ("name", "limit"),
    [("sparsemax", 1.0), ("logn", math.log(T) / 2), ("relu", 1.0), ("stickbreaking", None)],
)
def test_the_limit_of_a_jacobian_is_that_of_the_number_of_keys_where_it_is_largest(name, limit):
    """The longest row where the norm grows with the keys that are seen, one key where it falls."""
    model = use(model_of("llama"), name)
    audit = audited(model)
    if limit is None:
        assert audit.heads[0].jacobian_spectral is None
        assert audit.jacobian_limit == pytest.approx(1 / math.sqrt(2 * math.e))
    else:
        assert audit.jacobian_limit == pytest.approx(limit)
        assert all(head.jacobian_spectral <= limit for head in audit.heads)


def test_a_model_without_the_interface_is_refused():
    config = tr.BloomConfig(vocab_size=V, hidden_size=16, n_layer=1, n_head=2)
    model = tr.BloomForCausalLM(config).eval()
    with pytest.raises(WideneckError, match="attention"):
        audited(model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": (5, 3)}, "ascending"),
        ({"sizes": ()}, "one or more"),
        ({"reference_size": 4}, "one of the sizes"),
        ({"context": 8}, "take a longer context"),
        ({"vectors": "keys"}, "values, hidden, embeddings"),
        ({"level": 1.0}, "between 0 and 1"),
        ({"level": 0.0}, "between 0 and 1"),
        ({"sizes": (0, 3)}, "above 0"),
        ({"steps": (0.0,)}, "from 1e-6 on"),
        ({"temperatures": (math.inf,)}, "from 1e-6 on"),
        ({"num_queries": 0}, "number >= 1"),
        ({"include_masked": 1}, "true or false"),
    ],
)
def test_settings_out_of_range_are_one_sentence(change, message):
    with pytest.raises(WideneckError, match=message):
        replace(SETTINGS, **change)


def test_layers_of_different_scaling_share_the_temperatures_of_the_finite_differences():
    torch.manual_seed(0)
    config = tr.GPT2Config(**GPT2 | {"n_layer": 3}, scale_attn_by_inverse_layer_idx=True)
    model = tr.GPT2LMHeadModel(config).eval()
    audit = audited(model, replace(SETTINGS, temperatures=(5.0, 10.0)))
    own = math.sqrt(8)
    assert [p.temperature for p in audit.by_step[:3]] == pytest.approx([own, 5.0, 10.0])
    assert all(p.largest_head <= p.bound for p in audit.by_step)


def test_a_reference_size_that_nothing_is_left_for_is_refused():
    settings = replace(SETTINGS, sizes=(T - 1,), reference_size=T - 1, drop_first=True)
    with pytest.raises(WideneckError, match="ask for a smaller one"):
        audited(model_of("llama"), settings)


def test_layers_that_cannot_be_skipped_are_run_again(monkeypatch):
    """A layer that hands on more than its output, as those that share keys with later ones."""
    model, windows = model_of("llama"), windows_of(1)
    reader = Reader(model, LogitMap("identity"), read_head(model))
    layers = dict.fromkeys(attention_of(model), 2)
    expected = ablation_losses(reader, layers, windows.ids, windows.targets)
    first, second = model.model.layers
    shared = {}
    inner, outer = first.forward, second.forward

    def gives(*args, **kwargs):
        shared["ran"] = True
        return inner(*args, **kwargs)

    def takes(*args, **kwargs):
        shared.pop("ran")  # KeyError unless the first layer has run
        return outer(*args, **kwargs)

    monkeypatch.setattr(first, "forward", gives)
    monkeypatch.setattr(second, "forward", takes)
    notes = []
    found = ablation_losses(reader, layers, windows.ids, windows.targets, notes=notes)
    assert [note[note.index("(") :] for note in notes] == ["(KeyError: 'ran')."]
    assert torch.equal(found[0], expected[0])
    for again, before in zip(found[1], expected[1], strict=True):
        assert (again - before).abs().max() < 1e-4
    assert (first.forward, second.forward) == (gives, takes)


def test_running_out_of_memory_is_no_sign_that_layers_cannot_be_skipped(monkeypatch):
    model, windows = model_of("llama"), windows_of(1)
    last, runs = model.model.layers[1], []
    inner = last.forward

    def full(*args, **kwargs):
        runs.append(args)
        if len(runs) == 2:  # the first of them is the model as it is
            raise torch.OutOfMemoryError("no memory")
        return inner(*args, **kwargs)

    monkeypatch.setattr(last, "forward", full)
    reader, layers = (
        Reader(model, LogitMap("identity"), read_head(model)),
        dict.fromkeys(attention_of(model), 2),
    )
    with pytest.raises(WideneckError, match="does not fit the memory"):
        ablation_losses(reader, layers, windows.ids, windows.targets)
    assert len(runs) == 2
