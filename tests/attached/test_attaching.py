"""Which models `attach` takes, and what it says to the others."""

import copy
import pickle

import pytest
import torch
import transformers as tr
from attachable import attached, token_ids

import wideneck as wn
from tiny import LLAMA, tiny_model


def refused(model, sentence):
    with pytest.raises(wn.WideneckError, match=sentence):
        wn.attach(model, "sigsoftmax")


def test_a_model_that_has_a_head_is_refused():
    refused(attached("llama", "moss"), "has a moss head of wideneck already")


def test_what_is_no_language_model_is_refused():
    refused(torch.nn.Linear(2, 2), "causal language model of transformers.*got Linear")
    refused(tr.LlamaModel(tr.LlamaConfig(**LLAMA)), "got LlamaModel")


def test_a_masked_language_model_is_refused():
    config = tr.BertConfig(
        vocab_size=32,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
    )
    refused(tr.BertForMaskedLM(config), "predicts the next token")


def test_an_encoder_with_a_decoder_is_refused():
    config = tr.T5Config(vocab_size=32, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=1)
    refused(tr.T5ForConditionalGeneration(config), "or has an encoder")


def test_a_model_without_weights_is_refused():
    with torch.device("meta"):
        model = tr.LlamaForCausalLM(tr.LlamaConfig(**LLAMA))
    refused(model, "weights on the meta device")


def test_an_output_layer_of_another_kind_is_refused():
    model = tiny_model("llama")
    model.lm_head = torch.nn.Bilinear(4, 4, 4)
    refused(model, "linear output layer in floating point")


def test_logits_that_are_not_understood_are_refused():
    class Odd(tr.LlamaForCausalLM):
        def forward(self, *args, **kwargs):
            out = super().forward(*args, **kwargs)
            out.logits = out.logits.square()
            return out

    refused(Odd(tr.LlamaConfig(**LLAMA)), "not understood")


def test_a_class_that_transformers_could_not_load_again_is_refused():
    class Remote(tr.LlamaForCausalLM):
        pass

    refused(Remote(tr.LlamaConfig(**LLAMA)), "needs no remote code")


def test_a_model_that_gives_no_numbers_is_refused():
    model = tiny_model("llama")
    model.model.norm.weight.data.fill_(float("nan"))
    refused(model, "not finite on random tokens")


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@torch.no_grad()
def test_copies_work_on_their_own(copied):
    model = attached("llama-tied", "moss")
    copy_ = copied(model)
    assert type(copy_) is type(model)
    assert copy_.lm_head.weight is copy_.model.embed_tokens.weight
    ids = token_ids()
    assert torch.equal(copy_(input_ids=ids).logits, model(input_ids=ids).logits)
    model.lm_head.weight.zero_()
    assert not torch.equal(copy_(input_ids=ids).logits, model(input_ids=ids).logits)


def test_transformers_sees_the_class_that_it_knows():
    model, original = attached("llama", "sigsoftmax"), tiny_model("llama")
    assert isinstance(model, tr.LlamaForCausalLM)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert type(model.config) is type(original.config)
    assert model.can_generate()
    assert list(dict(model.named_parameters()))[:-1] == list(dict(original.named_parameters()))


def test_the_class_itself_makes_no_model():
    with pytest.raises(wn.WideneckError, match=r"made by wideneck.attach or wideneck.load"):
        type(attached("llama", "sigsoftmax"))(tr.LlamaConfig(**LLAMA))
