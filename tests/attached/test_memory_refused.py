"""What a memory cannot go with, in one sentence."""

import pytest
import torch
import transformers as tr
from remembering import DECODER, model_of, prompts, remembering

import wideneck as wn
from tiny import SHORT
from wideneck.errors import WideneckError

MAMBA = {"vocab_size": 96, "hidden_size": 16, "state_size": 4, "num_hidden_layers": 1, **SHORT}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"alpha": -1}, "finite number >= 0 for alpha, got -1"),
        ({"margin": -0.1}, "finite number >= 0 for margin, got -0.1"),
        ({"temperature": 0}, "finite number > 0 for temperature"),
        ({"weight": 1.0}, "0 < weight < 1, got 1.0"),
        ({"window": 0}, "whole number >= 1 for window"),
        ({"reduction": "mean"}, "reduction is one of pair_mean, sum.*got 'mean'"),
        ({"mixture": "linear", "scores": "logits"}, "leave out scores='logits'"),
        ({"margn": 1}, "Did you mean 'margin'"),
    ],
)
def test_a_config_out_of_range_is_refused_before_the_model_is_touched(options, sentence):
    model = model_of("llama")
    cls = type(model)
    with pytest.raises(WideneckError, match=sentence):
        wn.attach_memory(model, **options)
    assert type(model) is cls


def test_a_second_memory_is_refused():
    with pytest.raises(WideneckError, match="has a memory already"):
        wn.attach_memory(remembering("llama"))


def test_what_is_no_language_model_is_refused():
    with pytest.raises(WideneckError, match="attach_memory needs a causal language model"):
        wn.attach_memory(torch.nn.Linear(3, 3))


def test_a_model_whose_cache_is_unknown_is_refused_and_stays_as_it_was():
    model = tr.MambaForCausalLM(tr.MambaConfig(**MAMBA))
    with pytest.raises(WideneckError, match=r"rides in a DynamicCache .* MambaForCausalLM has"):
        wn.attach_memory(model)
    assert type(model) is tr.MambaForCausalLM
    assert isinstance(model.get_output_embeddings(), torch.nn.Linear)


def test_raw_scores_of_a_mixture_of_distributions_are_refused():
    model = wn.attach(model_of("llama"), "mos", num_components=2)
    with pytest.raises(WideneckError, match="a mos head mixes distributions"):
        wn.attach_memory(model, wn.Memory.published())


@pytest.mark.parametrize("option", ["window", "separator"])
def test_an_encoders_memory_has_no_window_and_no_border(option):
    with pytest.raises(WideneckError, match=f"{option} is for a memory of the model's own history"):
        wn.attach_memory(model_of("bart"), **{option: 5})


def test_ids_beyond_the_vocabulary_are_refused():
    with pytest.raises(WideneckError, match=r"in \[0, 96\).*got 96"):
        remembering("llama")(torch.tensor([[4, 96]]))
    with pytest.raises(WideneckError, match=r"in \[0, 96\).*got -1"):
        remembering("llama")(torch.tensor([[4, -1]]))


def test_embeddings_alone_say_nothing_of_the_tokens():
    with pytest.raises(WideneckError, match="needs input_ids"):
        remembering("llama")(inputs_embeds=torch.randn(1, 4, 16))


def test_encoder_outputs_alone_say_nothing_of_the_source():
    model = remembering("bart")
    outputs = model.get_encoder()(prompts()["input_ids"])
    decoder = torch.full((3, 1), 1)
    with pytest.raises(WideneckError, match="decoder_memory_ids"):
        model(encoder_outputs=outputs, decoder_input_ids=decoder)
    model(
        encoder_outputs=outputs,
        decoder_input_ids=decoder,
        decoder_memory_ids=prompts()["input_ids"],
    )
    with pytest.raises(WideneckError, match="one state per token"):
        model(
            encoder_outputs=outputs,
            decoder_input_ids=decoder,
            decoder_memory_ids=prompts()["input_ids"][:, 1:],
        )


def test_a_mask_that_tells_no_padding_is_refused():
    ids = prompts()["input_ids"]
    with pytest.raises(WideneckError, match=r"attention_mask of shape \(batch, tokens\)"):
        remembering("llama")(ids, attention_mask=torch.zeros(3, 1, 8, 8))


def test_a_model_without_finite_states_is_refused():
    model = tr.LlamaForCausalLM(tr.LlamaConfig(**DECODER))
    model.model.norm.weight.data.fill_(torch.nan)
    with pytest.raises(WideneckError, match="not finite on random tokens"):
        wn.attach_memory(model)
