"""Which list of transformers has the model of a config that predicts the next token."""

import pytest
import transformers as tr

from seeing import SEEING
from tiny import LLAMA
from wideneck.models.auto_class import auto_class


@pytest.mark.parametrize("name", SEEING)
def test_a_model_that_sees_is_made_whole(name):
    model, _ = SEEING[name]()
    for architectures in (None, [type(model).__name__], ["OwnLM"]):
        model.config.architectures = architectures
        assert auto_class(model.config)._model_mapping[type(model.config)] is type(model)


def test_where_two_lists_know_a_config_the_class_that_it_names_is_made():
    config = tr.Llama4Config(architectures=["Llama4ForConditionalGeneration"])
    assert auto_class(config) is tr.AutoModelForImageTextToText
    config.architectures = ["Llama4ForCausalLM"]
    assert auto_class(config) is tr.AutoModelForCausalLM


def test_models_of_text_and_models_that_hear_have_a_list_each():
    assert auto_class(tr.LlamaConfig(**LLAMA)) is tr.AutoModelForCausalLM
    assert auto_class(tr.Qwen2AudioConfig()) is tr.AutoModelForMultimodalLM


def test_what_predicts_no_token_has_none():
    assert auto_class(tr.ViTConfig()) is None
