"""Tying is decided from the tensors."""

import pytest
import torch

from checkpoints import assert_is_head_of, edit_config, edit_tensors, saved, without
from tiny import V, tiny_model
from wideneck.errors import WideneckError
from wideneck.models import read_head


def test_equal_bytes_are_tied_whatever_the_config_says(tmp_path):
    def copy(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()

    saved(tiny_model("llama"), tmp_path)
    edit_tensors(tmp_path, copy)
    head = read_head(tmp_path)
    assert head.tied
    assert "same bytes; config.json says not tied" in head.tying


def test_different_matrices_are_untied_whatever_the_config_says(tmp_path):
    model = tiny_model("llama")
    saved(model, tmp_path)
    edit_config(tmp_path, tie_word_embeddings=True)
    head = read_head(tmp_path)
    assert not head.tied
    assert head.tying == (
        "config.json says tied, the file holds two different matrices: measured the stored "
        "lm_head.weight"
    )
    assert_is_head_of(head, model)


def test_one_different_bit_at_the_end_is_untied(tmp_path):
    def almost(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
        tensors["lm_head.weight"][-1, -1] = torch.nextafter(
            tensors["lm_head.weight"][-1, -1], torch.tensor(9.0)
        )

    saved(tiny_model("llama"), tmp_path)
    edit_tensors(tmp_path, almost)
    assert not read_head(tmp_path).tied


def test_an_untied_model_without_its_head_is_refused(tmp_path):
    saved(tiny_model("llama"), tmp_path)
    edit_tensors(tmp_path, without("lm_head.weight"))
    with pytest.raises(WideneckError, match="bare model, whose head would be random"):
        read_head(tmp_path)


def test_a_head_that_is_packed_is_not_taken_for_a_tied_one(tmp_path):
    def pack(tensors):
        del tensors["lm_head.weight"]
        tensors["lm_head.qweight"] = torch.zeros(2, V, dtype=torch.int32)

    saved(tiny_model("llama"), tmp_path)
    edit_config(tmp_path, tie_word_embeddings=True)
    edit_tensors(tmp_path, pack)
    with pytest.raises(WideneckError, match=r"lm_head\.qweight"):
        read_head(tmp_path)
