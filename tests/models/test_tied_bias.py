"""Heads of BERT's kind, whose bias is stored under the name of the module around the head."""

from typing import Any

import pytest
import torch
import transformers as tr

from checkpoints import assert_is_head_of, edit_tensors, saved, without
from tiny import D, V
from wideneck.errors import WideneckError
from wideneck.models import read_head

SMALL = {
    "vocab_size": V,
    "hidden_size": D,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "is_decoder": True,
}
MODELS = {
    "bert": (tr.BertConfig, tr.BertLMHeadModel),
    "roberta": (tr.RobertaConfig, tr.RobertaForCausalLM),
    "xlm-roberta": (tr.XLMRobertaConfig, tr.XLMRobertaForCausalLM),
    "roformer": (tr.RoFormerConfig, tr.RoFormerForCausalLM),
    "megatron-bert": (tr.MegatronBertConfig, tr.MegatronBertForCausalLM),
    "electra": (tr.ElectraConfig, tr.ElectraForCausalLM),
}


def with_bias(kind) -> Any:
    config, causal = MODELS[kind]
    torch.manual_seed(0)
    model: Any = causal(config(**SMALL))
    model.get_output_embeddings().bias.data.normal_()
    return model


@pytest.mark.parametrize("kind", MODELS)
def test_the_bias_is_read(tmp_path, kind):
    model = with_bias(kind)
    head = read_head(saved(model, tmp_path / "saved"))
    assert_is_head_of(head, model)
    assert head.bias is not None
    assert head.tied

    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")  # under both names
    assert_is_head_of(read_head(tmp_path), model)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_bias_that_is_missing_is_refused(tmp_path, kind):
    saved(with_bias(kind), tmp_path)
    name = {"bert": "cls.predictions.bias", "roberta": "lm_head.bias"}[kind]
    edit_tensors(tmp_path, without(name))
    with pytest.raises(WideneckError, match=r"holds no .*decoder\.bias"):
        read_head(tmp_path)


def test_two_biases_of_one_head_are_refused(tmp_path):
    saved(with_bias("bert"), tmp_path)
    other = {"cls.predictions.decoder.bias": torch.randn(V)}
    edit_tensors(tmp_path, lambda tensors: tensors | other)
    with pytest.raises(WideneckError, match="different numbers under the two names"):
        read_head(tmp_path)
