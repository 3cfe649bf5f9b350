"""What `use` refuses, in one sentence each, with the model left as it was."""

import copy
from dataclasses import replace

import pytest
import torch
import transformers as tr
from usable import DEEP, GPT2, logits, shaken, tiny, token_ids, used

import wideneck as wn
from wideneck.attention import build, use
from wideneck.attention.call import as_call
from wideneck.attention.routes import WAYS


def assert_untouched(made, before):
    """In bits and in everything else that `use` may change."""
    assert type(made) is type(before)
    assert made.config._attn_implementation == before.config._attn_implementation
    ours, theirs = made.state_dict(), before.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert vars(made).keys() == vars(before).keys()
    assert made._keep_in_fp32_modules_strict == before._keep_in_fp32_modules_strict
    for module, twin in zip(made.modules(), before.modules(), strict=True):
        assert type(module) is type(twin)
        assert len(module._forward_pre_hooks) == len(twin._forward_pre_hooks)


def bloom():
    return tr.BloomForCausalLM(tr.BloomConfig(vocab_size=96, hidden_size=32, n_layer=2, n_head=4))


def mamba():
    return tr.MambaForCausalLM(tr.MambaConfig(vocab_size=96, hidden_size=16, num_hidden_layers=1))


def t5():
    options = {"vocab_size": 96, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_heads": 2}
    return tr.T5ForConditionalGeneration(tr.T5Config(**options, num_layers=1))


def crossing():
    config = tr.GPT2Config(**GPT2, add_cross_attention=True)
    return tr.GPT2LMHeadModel(config)


class Halved(tr.LlamaForCausalLM):
    """A class of a user, not of transformers."""


REFUSED = {
    "no interface": (bloom, "attention"),
    "no attention": (mamba, "attention"),
    "two halves": (t5, "has an encoder and a decoder"),
    "unreached layers": (crossing, "did not run its attention layer 'transformer.h.0.crossatt"),
    "a class of its own": (lambda: Halved(tr.LlamaConfig(**DEEP)), "not a class of transformers"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("normalizer", ["ssmax", "asentmax"])
def test_models_that_do_more_or_less_are_refused(name, normalizer):
    make, sentence = REFUSED[name]
    torch.manual_seed(0)
    made = make().eval()
    before = copy.deepcopy(made)
    with pytest.raises(wn.WideneckError, match=sentence):
        use(made, normalizer)
    assert_untouched(made, before)


def test_what_is_no_model_is_refused():
    for other in (torch.nn.Linear(2, 2), torch.compile(tiny("llama")), "llama"):
        with pytest.raises(wn.WideneckError, match="use needs a model of transformers"):
            use(other, "ssmax")
    with torch.device("meta"):
        made = tr.LlamaForCausalLM(tr.LlamaConfig(**DEEP))
    with pytest.raises(wn.WideneckError, match="meta device"):
        use(made, "ssmax")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"normalizer": "ssmx"}, "Did you mean 'ssmax'"),
        ({"normalizer": "ssmax", "size": 2}, "No option of normalizer 'ssmax' is called 'size'"),
        ({"normalizer": "entmax", "alpha": 2.0}, "cannot start at 2: start between"),
        ({"normalizer": "entmax", "alpha": 1}, "cannot start at 1"),
        ({"normalizer": "ssmax", "scale": torch.ones(4, 1, 1)}, "starts from a number for scale"),
        ({"normalizer": "asentmax", "beta": 1.0}, "learns beta and gamma"),
    ],
)
def test_starts_that_cannot_be_are_refused(options, sentence):
    made = tiny("llama")
    before = copy.deepcopy(made)
    with pytest.raises(wn.WideneckError, match=sentence):
        use(made, **options)
    assert_untouched(made, before)


def test_a_part_called_normalizer_is_not_overwritten():
    made = tiny("llama")
    made.model.layers[1].self_attn.normalizer = torch.nn.Identity()
    before = copy.deepcopy(made)
    with pytest.raises(wn.WideneckError, match="part called 'normalizer' of its own"):
        use(made, "ssmax")
    assert_untouched(made, before)


def dropping_the_mask(call, config):
    return original(replace(call, mask=None, causal=False), config)


def biased(call, config):
    return original(call, config) * 1.01


original = WAYS["sdpa"].attend


def only_under_ssmax(broken):
    def fused(call, config):
        ssmax = type(config).__name__ == "SSMax"
        return (broken if ssmax else original)(call, config)

    return fused


@pytest.mark.parametrize("former", [None, "sink", "asentmax"])
@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (only_under_ssmax(dropping_the_mask), "lets tokens see later ones"),
        (biased, "does more in its attention than a softmax"),
        (dropping_the_mask, "does more in its attention than a softmax"),
        (lambda call, config: original(call, config) / 0, "not finite"),
    ],
)
def test_the_probe_catches_an_attention_that_is_wrong(broken, sentence, former, monkeypatch):
    made = tiny("mistral") if former is None else shaken(used("mistral", former))
    before = copy.deepcopy(made)
    with monkeypatch.context() as patch:
        patch.setitem(WAYS, "sdpa", replace(WAYS["sdpa"], attend=broken))
        with pytest.raises(wn.WideneckError, match=sentence):
            use(made, "ssmax")
    assert_untouched(made, before)
    assert torch.equal(logits(made, token_ids()), logits(before, token_ids()))
    use(made, "softmax")
    assert torch.equal(logits(made, token_ids()), logits(tiny("mistral"), token_ids()))


def test_masks_that_are_not_boolean_are_refused():
    made, ids = used("llama", "ssmax"), token_ids()
    mask = torch.zeros(2, 1, 13, 13)
    with pytest.raises(wn.WideneckError, match=r"attention mask of torch.float32"):
        made(input_ids=ids, attention_mask=mask)
    visible = torch.ones(2, 1, 13, 13, dtype=torch.bool).tril()
    assert torch.equal(logits(made, ids), logits(made, ids))
    torch.testing.assert_close(logits(made, ids, attention_mask=visible), logits(made, ids))


def test_borders_of_documents_that_cannot_belong_to_the_rows_are_refused():
    made, ids = used("llama", "ssmax"), token_ids()
    borders = torch.tensor([0, 5, 13])
    with pytest.raises(wn.WideneckError, match=r"'cu_seq_lens_q' with queries of shape \(2, 4, 13"):
        made(input_ids=ids, cu_seq_lens_q=borders)
    cache = made(input_ids=ids[:1, :6]).past_key_values
    with pytest.raises(wn.WideneckError, match=r"and 13 keys: .* use_cache=False"):
        made(input_ids=ids[:1, 6:], past_key_values=cache, cu_seq_lens_q=borders)


def test_a_model_that_only_has_the_implementation_says_what_is_missing():
    made = tiny("llama")
    made.set_attn_implementation("wideneck")
    with pytest.raises(wn.WideneckError, match="has no normalizer: set it with"):
        made(input_ids=token_ids())


def test_modules_by_themselves_are_refused_what_does_not_fit():
    with pytest.raises(wn.WideneckError, match="whole number >= 1 for num_heads, got 0"):
        build("sink", num_heads=0)
    with pytest.raises(wn.WideneckError, match="for hidden_size, got None"):
        build("asentmax", num_heads=2)
    with pytest.raises(wn.WideneckError, match="learns for 2 heads"):
        build("sink", num_heads=2)(torch.zeros(3, 5, 5))
    with pytest.raises(wn.WideneckError, match=r"reads hidden states of shape \(B, Q, 8\)"):
        build("asentmax", num_heads=2, hidden_size=8)(torch.zeros(1, 2, 5, 5))


def test_a_scale_that_is_not_real_is_one_sentence():
    """Gemma 2's is query_pre_attn_scalar ** -0.5."""
    query = torch.randn(1, 2, 3, 4)
    with pytest.raises(wn.WideneckError, match="Linear attends by complex numbers"):
        as_call(torch.nn.Linear(1, 1), query, query, query, None, scaling=(-1) ** -0.5)
