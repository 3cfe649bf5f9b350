"""A checkpoint may hold the heads of other parts: of a draft, or of further tokens."""

import pytest
import torch
from safetensors.torch import save_file
from test_read_head import vision_model

import wideneck as wn
from checkpoints import assert_is_head_of, edit_tensors, saved
from tiny import D, V, tiny_model
from wideneck.errors import WideneckError
from wideneck.models import read_head

DRAFTS = [
    "mtp.lm_head.weight",
    "draft_model.lm_head.weight",
    "medusa_head.0.lm_head.weight",
    "eagle.lm_head.weight",
    "model.mtp.0.lm_head.weight",
    "speculator.output.weight",
    "draft.embed_out.weight",
    "mtp.lm_head.qweight",
]


def beside(*names):
    """Tensors of the head's shape, but with other numbers, under these names."""
    generator = torch.Generator().manual_seed(1)
    return lambda tensors: tensors | {n: torch.randn(V, D, generator=generator) for n in names}


@pytest.mark.parametrize("draft", DRAFTS)
def test_the_head_of_a_tied_model_is_its_embedding(draft, tmp_path):
    model = tiny_model("llama-tied")
    edit_tensors(saved(model, tmp_path), beside(draft))
    head = read_head(tmp_path)
    assert_is_head_of(head, model)
    assert (head.name, head.tied) == ("model.embed_tokens.weight", True)
    audit = wn.audit(tmp_path, sections="head", argmaxable=False).head
    assert (audit.tensor, audit.tied) == (head.name, True)


def test_the_head_of_an_untied_model_is_its_own(tmp_path):
    model = tiny_model("llama")
    edit_tensors(saved(model, tmp_path), beside(*DRAFTS))
    assert_is_head_of(read_head(tmp_path), model)


@pytest.mark.parametrize("draft", DRAFTS[:7])
def test_without_its_own_head_an_untied_model_is_refused(draft, tmp_path):
    def exchange(tensors):
        return beside(draft)({k: v for k, v in tensors.items() if k != "lm_head.weight"})

    edit_tensors(saved(tiny_model("llama"), tmp_path), exchange)
    with pytest.raises(WideneckError, match=r"only heads .* beside the model of model\.embed"):
        read_head(tmp_path)


def test_a_lone_file_does_not_say_whether_it_is_tied(tmp_path):
    embedding = {"model.embed_tokens.weight": torch.randn(V, D)}
    save_file(beside("mtp.lm_head.weight")(embedding), tmp_path / "a.safetensors")
    with pytest.raises(WideneckError, match=r"\(mtp\.lm_head\.weight\) are of parts beside"):
        read_head(tmp_path / "a.safetensors")
    save_file(beside("model.lm_head.weight")(embedding), tmp_path / "b.safetensors")
    assert read_head(tmp_path / "b.safetensors").name == "model.lm_head.weight"


def test_the_whole_of_a_model_may_lie_below_a_prefix(tmp_path):
    """So that its head lies there as well, and what lies beside it is of another part."""
    model = tiny_model("llama")

    def lower(tensors):
        return beside("draft.lm_head.weight")({f"thinker.{k}": v for k, v in tensors.items()})

    edit_tensors(saved(model, tmp_path), lower)
    head = read_head(tmp_path)
    assert_is_head_of(head, model)
    assert head.name == "thinker.lm_head.weight"


def test_a_vision_model_with_a_draft_is_read_by_its_text_part(tmp_path):
    model = vision_model("gemma3")
    edit_tensors(saved(model, tmp_path), beside("mtp.lm_head.weight"))
    head = read_head(tmp_path)
    assert_is_head_of(head, model)
    assert head.tied


def test_the_bias_of_another_part_is_not_the_heads(tmp_path):
    model = tiny_model("phi")

    def exchange(tensors):
        bias = tensors.pop("lm_head.bias")
        return tensors | {"mtp.lm_head.bias": bias}

    edit_tensors(saved(model, tmp_path), exchange)
    with pytest.raises(WideneckError, match=r"holds no lm_head\.bias"):
        read_head(tmp_path)


@pytest.mark.parametrize("backbone", ["transformer.wte.weight", "gpt_neox.embed_in.weight"])
def test_without_a_config_a_drafts_embedding_is_not_taken_for_the_models(backbone, tmp_path):
    """Whichever of the names that frameworks have for it comes first here."""
    others = beside("mtp.embed_tokens.weight", "mtp.lm_head.weight")
    save_file(others({backbone: torch.randn(V, D)}), tmp_path / "a.safetensors")
    with pytest.raises(WideneckError, match=rf"Several .* embedding: .*{backbone}"):
        read_head(tmp_path / "a.safetensors")
    # Of positions there are not as many rows as of tokens.
    names = {backbone: torch.randn(V, D), "positions.embedding.weight": torch.randn(8, D)}
    save_file(names, tmp_path / "b.safetensors")
    assert read_head(tmp_path / "b.safetensors").name == backbone


@pytest.mark.parametrize("draft", ["mtp.embed_tokens.weight", "draft.model.embed_tokens.weight"])
def test_an_embedding_that_cannot_be_read_is_not_replaced_by_a_drafts(draft, tmp_path):
    name, others = "model.embed_tokens.weight", beside(draft, "draft.lm_head.weight")
    for changed, said in (
        ({name: torch.randn(V + 8, D)}, rf"{name} has shape \({V + 8}, {D}\)"),
        ({"model.embed_tokens.qweight": torch.zeros(V, D // 4)}, r"model\.embed_tokens\.qweight"),
    ):
        folder = tmp_path / said[:5]
        saved(tiny_model("llama-tied"), folder)
        edit_tensors(folder, lambda t: others({k: v for k, v in t.items() if k != name} | changed))  # noqa: B023
        with pytest.raises(WideneckError, match=said):
            read_head(folder)
