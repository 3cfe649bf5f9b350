"""A memory in the KV cache: the same tokens and scores as without one, whatever generates."""

import pytest
import torch
import transformers as tr
from remembering import DECODERS, ENCODER_DECODERS, MODELS, model_of, prompts, remembering

from tiny import CACHE
from wideneck.errors import WideneckError
from wideneck.memory.layer import MemoryLayer

WAYS = {
    "greedy": {},
    "beams": {"num_beams": 4},
    "several beams": {"num_beams": 3, "num_return_sequences": 2},
    "sampling": {"do_sample": True, "top_p": 0.9, "num_return_sequences": 2},
    "beam sampling": {"do_sample": True, "num_beams": 2},
}


def generated(model, inputs, **options):
    torch.manual_seed(5)
    kind = {"max_new_tokens": 10, "eos_token_id": None, "pad_token_id": 2, **options}
    result = model.generate(**inputs, **kind, output_scores=True, return_dict_in_generate=True)
    return result.sequences, result.scores


def assert_same(ours, theirs):
    assert torch.equal(ours[0], theirs[0])
    for a, b in zip(ours[1], theirs[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("way", WAYS)
def test_the_cache_changes_nothing(name, way):
    model, inputs = remembering(name), prompts()

    cached = generated(model, inputs, **WAYS[way], use_cache=True)
    plain = generated(model, inputs, **WAYS[way], use_cache=False)

    assert_same(cached, plain)


@pytest.mark.parametrize("options", [{"window": 3}, {"separator": 5}, {"mixture": "linear"}])
def test_the_cache_changes_nothing_with_a_window_or_a_border(options):
    model, inputs = remembering("llama", **options), prompts()
    assert_same(generated(model, inputs), generated(model, inputs, use_cache=False))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("row", [0, 1])
def test_guesses_from_the_prompt_are_taken_back_where_they_are_wrong(name, row):
    """Prompt lookup crops the cache; one sequence at a time, as transformers has it."""
    model = remembering(name)
    inputs = {key: value[row : row + 1] for key, value in prompts().items()}

    ours = generated(model, inputs, prompt_lookup_num_tokens=3)[0]

    assert torch.equal(ours, generated(model, inputs, use_cache=False)[0])


@pytest.mark.parametrize("name", DECODERS)
def test_an_assistant_may_guess(name):
    model = remembering(name)
    inputs = {key: value[:1] for key, value in prompts().items()}

    ours = generated(model, inputs, assistant_model=model_of("llama"))[0]

    assert torch.equal(ours, generated(model, inputs, use_cache=False)[0])


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen2"])
def test_a_prompt_may_come_in_chunks(name):
    model, inputs = remembering(name), prompts()
    assert_same(generated(model, inputs, prefill_chunk_size=3), generated(model, inputs))


@pytest.mark.parametrize("name", DECODERS)
def test_a_batch_is_its_rows(name):
    """Left padding and neighbours leave a row alone."""
    model, inputs = remembering(name), prompts()
    together, _ = generated(model, inputs)

    alone, _ = generated(model, {"input_ids": inputs["input_ids"][:1, 3:]})

    assert torch.equal(together[:1, 3:], alone)


@pytest.mark.parametrize("name", ENCODER_DECODERS)
@pytest.mark.parametrize("num_beams", [1, 4])
def test_beams_of_a_batch_read_their_own_sources(name, num_beams):
    """The released code scrambled the source's tokens across beams."""
    model, inputs = remembering(name), prompts()
    together, _ = generated(model, inputs, num_beams=num_beams)

    for row in range(3):
        alone = {key: value[row : row + 1] for key, value in inputs.items()}
        ours, _ = generated(model, alone, num_beams=num_beams)
        assert torch.equal(together[row : row + 1], ours)


def test_a_conversation_goes_on_from_its_cache():
    model = remembering("llama")
    ids = prompts()["input_ids"][1:]
    cache = tr.DynamicCache(config=model.config)
    options = {CACHE: cache, "max_new_tokens": 4, "eos_token_id": None}
    first = model.generate(ids, **options)
    longer = torch.cat([first, ids[:, :3]], dim=1)

    second = model.generate(longer, **options)

    assert torch.equal(second, model.generate(longer, max_new_tokens=4, eos_token_id=None))
    assert sum(isinstance(layer, MemoryLayer) for layer in cache.layers) == 1


def test_the_memory_is_as_long_as_the_keys_and_is_cropped_with_them():
    model, inputs = remembering("llama"), prompts()
    cache = model(**inputs, use_cache=True)[CACHE]
    (layer,) = [layer for layer in cache.layers if isinstance(layer, MemoryLayer)]
    assert layer.get_seq_length() == cache.get_seq_length() == 8

    cache.crop(-3)

    assert layer.get_seq_length() == cache.get_seq_length() == 5


def test_token_ids_in_the_cache_keep_every_digit_in_half_precision():
    model = remembering("llama", torch.bfloat16)
    cache = model(**prompts(), use_cache=True)[CACHE]
    layer = cache.layers[-1]
    assert layer.keys.dtype == torch.bfloat16
    assert torch.equal(layer.values[:, 0, :, 0], prompts()["input_ids"])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"cache_implementation": "static"}, "rides in a DynamicCache.*got StaticCache"),
        ({"cache_implementation": "offloaded"}, "offloaded cache"),
    ],
)
def test_a_cache_that_a_memory_cannot_ride_in_is_refused(options, sentence, monkeypatch):
    monkeypatch.setattr(torch, "Stream", lambda: None)  # which the CPU does not have
    with pytest.raises(WideneckError, match=sentence):
        remembering("llama").generate(**prompts(), max_new_tokens=2, **options)


def test_a_cache_that_another_model_has_filled_is_refused():
    model, inputs = remembering("llama"), prompts()
    cache = model(**inputs, use_cache=True)[CACHE]
    del cache.layers[-1]
    new = {"input_ids": inputs["input_ids"][:, :1], "attention_mask": torch.ones(3, 9)}
    with pytest.raises(
        WideneckError, match=r"holds 8 positions, of which the memory .* has seen 0"
    ):
        model(**new, **{CACHE: cache})
