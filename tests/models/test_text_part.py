"""Which part of a model reads text, and what stands beside it."""

import pytest
import transformers as tr

from seeing import IMAGE_TOKEN, SEEING, VIDEO_TOKEN, VISION, seeing
from tiny import CASES, LLAMA, V, tiny_model
from wideneck.models.reading import decoder_layers
from wideneck.models.text_part import (
    only_text,
    placeholders,
    text_config,
    text_modules,
    text_part,
    towers,
)


@pytest.mark.parametrize("name", SEEING)
def test_the_text_part_of_a_model_that_sees_is_its_decoder(name):
    model, _ = seeing(name)
    decoder = model.model.language_model
    tower = "model.visual" if name.startswith("qwen") else "model.vision_tower"
    assert text_part(model) is decoder
    assert towers(model) == [tower]
    assert text_config(model.config) is model.config.text_config
    assert decoder_layers(model) == list(decoder.layers)
    videos = [VIDEO_TOKEN] if name.startswith("qwen") else []
    assert placeholders(model.config) == [IMAGE_TOKEN, *videos]
    (said,) = only_text(model)
    assert f"{type(model).__name__}, model.language_model, on text alone: {tower} takes" in said


@pytest.mark.parametrize("name", CASES)
def test_a_model_of_text_is_its_text_part(name):
    model = tiny_model(name)
    table = model.get_input_embeddings()
    assert table in text_part(model).modules()
    assert model.get_output_embeddings() not in text_part(model).modules()
    assert text_config(model.config) is model.config
    assert len(decoder_layers(model)) == model.config.num_hidden_layers
    assert towers(model) == only_text(model) == placeholders(model.config) == []


def test_a_tower_may_stand_inside_the_text_part():
    model = tr.GitForCausalLM(
        tr.GitConfig(**LLAMA | {"num_hidden_layers": 2}, vision_config=VISION)
    )
    assert text_part(model) is model.git
    assert towers(model) == ["git.image_encoder"]
    assert not set(text_modules(model)) & set(model.git.image_encoder.modules())
    assert decoder_layers(model) == list(model.git.encoder.layer)


def test_of_an_encoder_decoder_the_decoder_is_described():
    config = tr.BartConfig(vocab_size=V, d_model=16, encoder_layers=1, decoder_layers=3)
    assert text_config(config).num_hidden_layers == 3
    composed = tr.EncoderDecoderConfig(
        encoder=tr.BertConfig(num_hidden_layers=1).to_dict(),
        decoder=tr.GPT2Config(n_layer=3).to_dict(),
    )
    assert text_config(composed) is composed.decoder


def test_a_model_without_a_table_of_tokens_is_its_own_text_part():
    model = tr.ViTModel(tr.ViTConfig(**VISION))
    model.get_input_embeddings = _names_none
    assert text_part(model) is model
    assert towers(model) == []


def _names_none():
    raise NotImplementedError
