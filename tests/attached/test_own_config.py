"""What is done to one model must not touch another of the same config."""

import copy
import pickle

import pytest
import torch
import transformers as tr

import wideneck as wn
from wideneck.attached.own_config import own_config
from wideneck.attached.swap import is_tied

SMALL = {
    "vocab_size": 96,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
    "tie_word_embeddings": True,
}
GEMMA = {**SMALL, "num_key_value_heads": 1, "head_dim": 8}
ENCODED = {
    "vocab_size": 96, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16, "max_position_embeddings": 64,
}  # fmt: skip
VISION = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 8, "patch_size": 4,
}  # fmt: skip


def llava():
    return tr.LlavaConfig(
        vision_config=tr.CLIPVisionConfig(**VISION),
        text_config=tr.LlamaConfig(**SMALL),
        image_token_index=95,
        tie_word_embeddings=True,
    )


def gemma3():
    return tr.Gemma3Config(
        text_config=tr.Gemma3TextConfig(**GEMMA),
        vision_config=tr.SiglipVisionConfig(**VISION),
        mm_tokens_per_image=4,
        image_token_index=95,
    )


CONFIGS = {
    "llama": lambda: tr.LlamaConfig(**SMALL),
    "qwen2": lambda: tr.Qwen2Config(**SMALL, num_key_value_heads=1),
    "mistral": lambda: tr.MistralConfig(**SMALL, num_key_value_heads=1),
    "gemma2": lambda: tr.Gemma2Config(**GEMMA),
    "gpt2": lambda: tr.GPT2Config(vocab_size=96, n_embd=16, n_layer=2, n_head=2, n_positions=64),
    "neox": lambda: tr.GPTNeoXConfig(**SMALL),
    "opt": lambda: tr.OPTConfig(
        vocab_size=96, hidden_size=16, ffn_dim=16, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, word_embed_proj_dim=16,
    ),
    "bart": lambda: tr.BartConfig(**ENCODED),
    "t5": lambda: tr.T5Config(
        vocab_size=96, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2,
        decoder_start_token_id=0,
    ),
    "llava": llava,
    "gemma3": gemma3,
}  # fmt: skip
CLASSES = {
    "bart": tr.BartForConditionalGeneration,
    "t5": tr.T5ForConditionalGeneration,
    "llava": tr.LlavaForConditionalGeneration,
    "gemma3": tr.Gemma3ForConditionalGeneration,
}


def pair(name):
    """Two models of one config object and of the same weights, and the config."""
    config = CONFIGS[name]()
    cls = CLASSES.get(name)
    made = cls if cls is not None else getattr(tr, type(config).__name__[:-6] + "ForCausalLM", None)
    made = made or tr.GPT2LMHeadModel
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(made(config).eval())
    return *models, config


def ids_of(shape=(1, 7)):
    return torch.randint(3, 90, shape, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def logits(model):
    options = {"decoder_input_ids": ids_of()} if model.config.is_encoder_decoder else {}
    return model(input_ids=ids_of(), **options).logits


def parts(config):
    """A config and those within it."""
    inner = [getattr(config, name, None) for name in config.sub_configs]
    return [config, *(each for one in inner if one is not None for each in parts(one))]


def state(config):
    """Everything of a config and its parts, to compare with later."""
    return copy.deepcopy([vars(part) for part in parts(config)])


def points_to(model, config):
    """Whether a config can be reached from anything that a model holds, by its deep copy."""
    memo = {}
    copy.deepcopy(model, memo)
    return any(id(part) in memo for part in parts(config))


def layout(model):
    """Which holders share a config: for each the first holder of the same one."""
    first, found = {}, []
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            for part in parts(value) if isinstance(value, tr.PreTrainedConfig) else ():
                found.append(first.setdefault(id(part), (name, key, type(part).__name__)))
    return found


@pytest.mark.parametrize("name", CONFIGS)
def test_every_part_of_a_model_points_to_the_copy_and_nobody_elses(name):
    first, second, config = pair(name)
    assert points_to(first, config)
    expected, before, former = layout(first), state(config), logits(first)
    give_back = own_config(first)
    assert not points_to(first, config)
    assert second.config is config
    assert layout(first) == expected
    assert first.config.get_text_config() in parts(first.config)
    assert state(first.config) == before
    assert torch.equal(logits(first), former)
    if name in ("llama", "gemma3", "bart", "opt"):
        expected = [m.config is first.config for m in first.modules() if hasattr(m, "config")]
        assert any(expected)
    give_back()
    assert first.config is config
    assert layout(first) == layout(second)


WRITERS = {
    "use": lambda model: wn.attention.use(model, "ssmax"),
    "use after use": lambda model: wn.attention.use(wn.attention.use(model, "sink"), "entmax15"),
    "use and back": lambda model: wn.attention.use(wn.attention.use(model, "sink"), "softmax"),
    "attach": lambda model: wn.attach(model, "sigsoftmax"),
    "attach untied": lambda model: wn.attach(model, "sigsoftmax", tie=False),
    "attach_memory": wn.attach_memory,
    "all": lambda model: wn.attach_memory(
        wn.attach(wn.attention.use(model, "ssmax"), "softmax", tie=False)
    ),
    "resize": lambda model: wn.attach(model, "sigsoftmax").resize_token_embeddings(101),
}


PAIRS = [(name, writer) for name in ("llama", "gemma3") for writer in WRITERS]
PAIRS += [
    (name, writer)
    for name in ("gpt2", "gemma2", "opt", "llava", "bart")
    for writer in ("use and back", "attach untied")
]


@pytest.mark.parametrize(("name", "writer"), PAIRS)
def test_the_other_model_of_a_config_and_a_later_one_are_what_they_were(name, writer):
    first, second, config = pair(name)
    before, expected = state(config), logits(second)
    try:
        WRITERS[writer](first)
    except wn.WideneckError:
        assert first.config is config or name == "bart"  # all or nothing
        assert torch.equal(logits(first), logits(pair(name)[0]))
    assert second.config is config
    assert state(config) == before
    assert torch.equal(logits(second), expected)
    assert logits(type(second)(config).eval()).shape == expected.shape
    if name not in ("bart", "gemma2") and "use" in writer:
        WRITERS[writer](second)
        assert torch.equal(logits(second), logits(WRITERS[writer](pair(name)[0])))


# Newer versions of transformers say that the method has got another name.
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_.*:FutureWarning")
def test_a_model_of_a_shared_config_goes_on_as_one_of_its_own(tmp_path):
    first, second, config = pair("llama")
    own = logits(second)
    wn.attention.use(first, "ssmax", scale=0.5)
    changed = logits(first)
    for again in (copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        assert torch.equal(logits(again), changed)
        assert again.model.layers[1].self_attn.config is again.config
        assert torch.equal(logits(wn.attention.use(again, "softmax")), own)
    first.save_pretrained(tmp_path)
    assert torch.equal(logits(wn.load(tmp_path)), changed)
    options = {"max_new_tokens": 3, "do_sample": False, "eos_token_id": None}
    assert first.generate(ids_of(), **options).shape == (1, 10)
    first.gradient_checkpointing_enable()
    first.train()(input_ids=ids_of(), labels=ids_of()).loss.backward()
    first.eval().gradient_checkpointing_disable()
    wn.attention.use(first, "softmax")
    first.set_attn_implementation("eager")
    assert first.model.layers[0].self_attn.config._attn_implementation == "eager"
    assert config._attn_implementation == second.config._attn_implementation == "sdpa"
    torch.testing.assert_close(logits(first), own)


def test_the_former_normalizer_is_restored_with_the_configs_it_had():
    first, _, config = pair("llama")
    wn.attention.use(first, "ssmax", scale=0.5)
    wn.attach(first, "softmax", tie=False)
    assert not is_tied(first)
    held, expected = first.config, logits(first)
    first.model.layers[1].self_attn.q_proj.weight.data.fill_(torch.nan)
    with pytest.raises(wn.WideneckError, match="not finite"):
        wn.attention.use(first, "sink")
    assert first.config is first.model.layers[0].self_attn.config is held
    assert expected.isfinite().all()
    wn.attention.use(first, "softmax")
    assert first.config._attn_implementation == "sdpa"
    assert config.tie_word_embeddings
    assert not first.config.tie_word_embeddings


def test_a_config_in_a_list_a_dictionary_or_a_cycle_is_found():
    first, _, config = pair("llama")
    first.notes = {"all": [config, (config,)]}
    first.notes["self"] = first.notes
    own_config(first)
    assert first.notes["all"][0] is first.notes["all"][1][0] is first.config


def test_a_model_made_of_the_copy_later_is_let_alone_on_the_way_back():
    first, _, _ = pair("llama")
    wn.attention.use(first, "sink")
    later = type(pair("llama")[0])(first.config)
    before = state(later.config)
    wn.attention.use(first, "softmax")
    assert later.config is not first.config
    assert state(later.config) == before
    assert not points_to(first, later.config)
