"""A normalizer that something goes past is refused by name; one that is called is let alone."""

import copy
import functools
import pickle
import types

import pytest
import torch
import torch.nn.functional as F
import transformers as tr
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module
from transformers.models.llama import modeling_llama as llama
from usable import MODELS, OPTIONS, logits, shaken, tiny, token_ids, used

import wideneck as wn
from wideneck.attention import use, visits


def theirs(self, hidden_states, position_embeddings=None, attention_mask=None, **_):
    """What Unsloth and others put in the place of an attention layer: its own softmax."""
    shape = (*hidden_states.shape[:-1], -1, self.head_dim)
    parts = [p(hidden_states).view(shape).mT for p in (self.q_proj, self.k_proj, self.v_proj)]
    query, key, value = (x.mT.transpose(1, 2) for x in parts)
    query, key = llama.apply_rotary_pos_emb(query, key, *position_embeddings)
    out = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    return self.o_proj(out.transpose(1, 2).flatten(2)), None


def inlined(self, hidden_states, position_embeddings=None, **_):
    """A decoder layer that never calls its attention layer."""
    out, _ = theirs(self.self_attn, self.input_layernorm(hidden_states), position_embeddings)
    hidden_states = hidden_states + out
    return hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))


def disguise(cls, function):
    """`functools.wraps` gives it the original's name and a `__wrapped__` that it never calls."""

    @functools.wraps(cls.forward)
    def forward(self, *args, **kwargs):
        return function(self, *args, **kwargs)

    return forward


def on_class(patch, made, cls, function):
    patch.setattr(cls, "forward", function)


def on_instance(patch, made, cls, function):
    for module in made.modules():
        if isinstance(module, cls):
            module.forward = types.MethodType(function, module)


def on_the_last(patch, made, cls, function):
    last = [module for module in made.modules() if isinstance(module, cls)][-1]
    last.forward = functools.partial(function, last)


WAYS = [on_class, on_instance, on_the_last]
CALLS = {
    "eval": lambda made, ids: logits(made, ids),
    "train": lambda made, ids: made.train()(input_ids=ids, labels=ids).loss.backward(),
    "inner": lambda made, ids: made.model(input_ids=ids),
    "forward": lambda made, ids: made.forward(input_ids=ids),
    "generate": lambda made, ids: made.generate(ids, max_new_tokens=2),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("cls", "function"),
    [
        (llama.LlamaAttention, theirs),
        (llama.LlamaAttention, disguise(llama.LlamaAttention, theirs)),
        (llama.LlamaDecoderLayer, inlined),
        (llama.LlamaDecoderLayer, disguise(llama.LlamaDecoderLayer, inlined)),
    ],
)
def test_what_stands_in_the_way_is_named(cls, function, way, call, monkeypatch):
    made, ids = used("llama", "ssmax"), token_ids()
    way(monkeypatch, made, cls, function)
    layer = 1 if way is on_the_last else 0
    name = f"{__name__}.{function.__code__.co_qualname}"
    sentence = (
        rf"layer '(model\.)?layers\.{layer}\.self_attn' goes past its normalizer, because "
        rf"{name} stands in the place of {cls.__name__}\.forward"
    )
    with pytest.raises(wn.WideneckError, match=sentence.replace("<locals>", ".*")):
        CALLS[call](made, ids)


class Theirs(llama.LlamaAttention):
    """A class of a client."""

    forward = theirs


def test_another_class_or_another_module_in_the_place_of_a_layer_is_named():
    made, ids = used("llama", "ssmax"), token_ids()
    layer = made.model.layers[1]
    before = logits(made, ids)
    layer.self_attn.__class__ = Theirs
    with pytest.raises(wn.WideneckError, match=r"layers.1.self_attn' goes past .*test_visits"):
        made(input_ids=ids)
    layer.self_attn.__class__ = llama.LlamaAttention
    own, layer.self_attn = layer.self_attn, Theirs(made.config, 1)
    for call in (made, made.model):
        with pytest.raises(wn.WideneckError, match=r"1.self_attn' has lost .*test_visits.Theirs"):
            call(input_ids=ids)
    layer.self_attn = own
    assert torch.equal(logits(made, ids), before)


class Skipped(torch.nn.Module):
    """A client's layer around one of the model, which it does not run."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, hidden_states, **_):
        return hidden_states


def test_a_client_may_skip_a_layer():
    made, without, ids = used("llama", "ssmax"), tiny("llama"), token_ids()
    made.model.layers[0] = Skipped(made.model.layers[0])
    found = logits(made, ids)
    del without.model.layers[0]
    without.config.num_hidden_layers = 1
    without.model.layers[0].self_attn.layer_idx = 0
    use(without, "ssmax", **OPTIONS["ssmax"])
    torch.testing.assert_close(found, logits(without, ids))


@pytest.mark.parametrize("how", ["head", "memory", "pickle", "copy"])
def test_models_with_more_of_wideneck_are_watched_too(how, monkeypatch):
    made, ids = used("llama", "ssmax"), token_ids()
    if how in ("head", "memory"):
        made = (wn.attach if how == "head" else wn.attach_memory)(
            made, **({"head": "softmax"} if how == "head" else {})
        )
    else:
        made = copy.deepcopy(made) if how == "copy" else pickle.loads(pickle.dumps(made))
    made(input_ids=ids, labels=ids)
    monkeypatch.setattr(llama.LlamaAttention, "forward", theirs)
    with pytest.raises(wn.WideneckError, match="goes past its normalizer"):
        made(input_ids=ids, labels=ids)
    monkeypatch.undo()
    use(made, "softmax")
    monkeypatch.setattr(llama.LlamaAttention, "forward", theirs)
    made(input_ids=ids, labels=ids)


def test_another_implementation_is_named():
    made, ids = shaken(used("llama", "ssmax")), token_ids()
    expected = logits(made, ids)
    made.set_attn_implementation("eager")
    with pytest.raises(wn.WideneckError, match="has been set to 'eager': call "):
        made(input_ids=ids)
    made.set_attn_implementation("wideneck")
    assert torch.equal(logits(made, ids), expected)
    made.set_attn_implementation("eager")
    use(made, "softmax")
    assert torch.equal(logits(made, ids), logits(tiny("llama"), ids))


def calling(self, *args, **kwargs):
    return original(self, *args, **kwargs)


def through_the_interface(self, hidden_states, position_embeddings=None, **kwargs):
    """A patch of another part of the layer, which goes on to ask the interface."""
    shape = (*hidden_states.shape[:-1], -1, self.head_dim)
    parts = (self.q_proj, self.k_proj, self.v_proj)
    query, key, value = (p(hidden_states).view(shape).transpose(1, 2) for p in parts)
    query, key = llama.apply_rotary_pos_emb(query, key, *position_embeddings)
    attend = llama.ALL_ATTENTION_FUNCTIONS[self.config._attn_implementation]
    out, weights = attend(self, query, key, value, None, scaling=self.scaling)
    return self.o_proj(out.flatten(2)), weights


original = llama.LlamaAttention.forward


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("function", [calling, through_the_interface])
def test_a_stranger_that_calls_the_normalizer_is_let_through(function, way, monkeypatch):
    made, ids = shaken(used("llama", "ssmax")), token_ids()
    expected = logits(made, ids)
    way(monkeypatch, made, llama.LlamaAttention, function)
    torch.testing.assert_close(logits(made, ids), expected)
    made.train()(input_ids=ids, labels=ids, use_cache=False).loss.backward()


class Sees(ModelHook):
    pass


@pytest.mark.parametrize("hooked", [False, True])
def test_a_layer_that_is_not_run_is_no_mistake(hooked):
    made, ids = used("llama", "ssmax"), token_ids()
    before = logits(made, ids)
    if hooked:
        for module in (made, *made.modules()):
            add_hook_to_module(module, Sees())
        assert torch.equal(logits(made, ids), before)
    whole = made.model.layers
    # Of a module of torch's and two layers, one is not run.
    made.model.layers = torch.nn.ModuleList([whole[0]])
    made.model.config.num_hidden_layers = 1
    assert not torch.equal(logits(made, ids), before)
    made.model.layers, made.model.config.num_hidden_layers = whole, 2
    if hooked:
        remove_hook_from_module(made, recurse=True)
    assert torch.equal(logits(made, ids), before)


def test_layer_drop_goes_on():
    config = tr.OPTConfig(
        vocab_size=96, hidden_size=16, ffn_dim=16, num_hidden_layers=3, num_attention_heads=2,
        max_position_embeddings=64, word_embed_proj_dim=16, layerdrop=0.6,
    )  # fmt: skip
    torch.manual_seed(0)
    made, ids = use(tr.OPTForCausalLM(config).eval(), "ssmax").train(), token_ids()
    layers = made.model.decoder.layers
    for module in layers:
        add_hook_to_module(module, Sees())
    run = []
    for layer in layers:
        layer.register_forward_hook(lambda *_: run.append(1))
    for _ in range(8):
        made(input_ids=ids, labels=ids).loss.backward()
    assert 0 < len(run) < 24


def test_parts_may_be_replaced_wrapped_and_compiled(monkeypatch):
    made, ids = shaken(used("llama", "ssmax")), token_ids()
    expected = logits(made, ids)

    class Adapted(torch.nn.Module):
        def __init__(self, base):
            super().__init__()
            self.base_layer = base

        def forward(self, x):
            return self.base_layer(x)

    made.model.layers[0].self_attn.q_proj = Adapted(made.model.layers[0].self_attn.q_proj)
    assert torch.equal(logits(made, ids), expected)
    monkeypatch.setattr(llama.LlamaAttention, "forward", calling)
    made.model.layers[0].compile(backend="eager")
    made.model.layers[1] = torch.compile(made.model.layers[1], backend="eager")
    torch.testing.assert_close(logits(made, ids), expected)


def test_the_watch_adds_no_break_to_a_compiled_graph():
    ids, counts = token_ids(), []
    for watching in (True, False):
        made = used("llama", "ssmax")
        if not watching:
            visits.unwatch(made)
        torch.compiler.reset()
        explained = torch._dynamo.explain(made)(input_ids=ids, use_cache=False)
        counts.append((explained.graph_count, explained.graph_break_count))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_watched_at_the_top_and_where_its_layers_are(model):
    made = tiny(model)
    modules = [m for m in made.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert not modules
    use(made, "ssmax")
    watched = [m for m in made.modules() if m._forward_hooks]
    assert watched == [made, made.base_model]
    use(made, "sink")
    assert all(len(m._forward_hooks) == len(m._forward_pre_hooks) == 1 for m in watched)
    use(made, "softmax")
    assert not [m for m in made.modules() if m._forward_hooks or m._forward_pre_hooks]


def test_an_exception_in_a_forward_leaves_the_next_one_alone():
    made, ids = used("llama", "ssmax"), token_ids()
    before = logits(made, ids)
    with pytest.raises(wn.WideneckError, match="attention mask"):
        made(input_ids=ids, attention_mask=torch.zeros(2, 1, 13, 13))
    assert torch.equal(logits(made, ids), before)
