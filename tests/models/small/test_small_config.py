"""The configs of the small models: by name, from a dictionary, and what is refused."""

import json
import subprocess
import sys

import pytest

from wideneck import WideneckError
from wideneck.models.small.config import (
    MODELS,
    AwdLstm,
    States,
    Transformer,
    model_config,
    model_to_dict,
)

CASES = [
    *MODELS.values(),
    AwdLstm(last_size=620, weight_dropout=0.0, tied=False),
    Transformer(architecture="llama", options={"hidden_size": 64}, bias=True),
    States(model="some/model", start="whitened"),
]


@pytest.mark.parametrize("config", CASES, ids=range(len(CASES)))
def test_a_config_comes_back_from_json(config):
    assert model_config(json.loads(json.dumps(model_to_dict(config)))) == config


def test_options_replace_fields():
    assert model_config("awd_lstm", last_size=5) == AwdLstm(last_size=5)
    assert model_config({"name": "states", "window": 8}, model="m") == States(window=8, model="m")


def test_the_defaults_are_those_of_the_released_code():
    config = AwdLstm()
    rates = (0.4, 0.3, 0.65, 0.1, 0.5)
    assert (config.embedding_size, config.hidden_size, config.num_layers) == (400, 1150, 3)
    assert rates == (
        config.output_dropout,
        config.hidden_dropout,
        config.input_dropout,
        config.embedding_dropout,
        config.weight_dropout,
    )
    assert (config.activation_regularization, config.temporal_regularization) == (2, 1)


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ("awd-lstm", {}, "No model is called 'awd-lstm'. Did you mean 'awd_lstm'?"),
        ("awd_lstm", {"nhid": 5}, "No option of model 'awd_lstm' is called 'nhid'"),
        ("awd_lstm", {"hidden_dropuot": 0}, "Did you mean 'hidden_dropout'?"),
        ({"hidden_size": 5}, {}, "A table without a name is no model"),
        ("awd_lstm", {"hidden_size": 0}, "awd_lstm needs a whole number >= 1 for hidden_size"),
        ("awd_lstm", {"last_size": 2.5}, "awd_lstm needs a whole number >= 1 for last_size"),
        ("awd_lstm", {"num_layers": True}, "awd_lstm needs a whole number >= 1 for num_layers"),
        ("awd_lstm", {"weight_dropout": 1.0}, "awd_lstm needs 0 <= weight_dropout < 1, got 1.0"),
        ("awd_lstm", {"input_dropout": -0.1}, "awd_lstm needs 0 <= input_dropout < 1"),
        ("awd_lstm", {"output_dropout": "0.4"}, "a finite number for output_dropout, got '0.4'"),
        ("awd_lstm", {"temporal_regularization": -1}, "finite number >= 0 for temporal_regul"),
        ("awd_lstm", {"tied": 1}, "awd_lstm needs true or false for tied, got 1"),
        ("awd_lstm", {"bias": None}, "awd_lstm needs true or false for bias"),
        ("transformer", {"context": 0}, "transformer needs a whole number >= 1 for context"),
        ("transformer", {"architecture": 2}, "the name of a model type for architecture, got 2"),
        ("transformer", {"options": ["n_embd"]}, "a table of a config's fields for options"),
        ("transformer", {"tied": "yes"}, "transformer needs true or false for tied"),
        ("states", {"train_tokens": 0}, "states needs a whole number >= 1 for train_tokens"),
        ("states", {"test_tokens": -1}, "states needs a whole number >= 0 for test_tokens"),
        ("states", {"start": "white"}, "is one of own, random, whitened, got 'white'"),
        ("states", {"model": 3}, "a Hugging Face id or a path for model, got 3"),
    ],
)
def test_what_no_model_can_be_is_refused(given, options, message):
    with pytest.raises(WideneckError) as refused:
        model_config(given, **options)
    assert message in str(refused.value)


def test_reading_a_config_loads_no_torch():
    code = (
        "import sys; from wideneck.models.small.config import model_config; "
        "model_config('awd_lstm'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
