import logging
import sys

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from tiny import tiny_model
from wideneck.errors import WideneckError
from wideneck.models import load_language_model, read_head
from wideneck.models.placement import Placement
from wideneck.models.quiet import quiet_transformers

WORDS = ["<s>", "</s>", "<pad>", "a", "b"]


def tokenizer(*, before=(), after=()):
    """One id a letter, with special tokens put around every text."""
    inner = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>")
    )
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single=" ".join([*before, "$A", *after]),
        special_tokens=[(word, WORDS.index(word)) for word in WORDS[:2]],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


@pytest.fixture
def folder(tmp_path):
    tiny_model("llama").save_pretrained(tmp_path)
    tokenizer(before=["<s>"]).save_pretrained(tmp_path)
    return tmp_path


def test_a_folder_is_loaded_with_its_tokenizer(folder):
    loaded = load_language_model(folder)
    ids = torch.arange(6)[None]
    assert torch.equal(loaded.model(ids).logits, tiny_model("llama")(ids).logits)
    assert not loaded.model.training
    assert (loaded.source, loaded.bos, loaded.max_positions) == (str(folder), [0], 64)
    assert len(loaded.tokenizer) == len(WORDS)


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_the_weights_file_of_a_folder_stands_for_it(folder, file):
    if file.endswith(".bin"):
        (folder / "model.safetensors").unlink()
        torch.save(tiny_model("llama").state_dict(), folder / file)
    loaded = load_language_model(folder / file)
    assert torch.equal(loaded.model.lm_head.weight, tiny_model("llama").lm_head.weight)


def test_the_type_is_the_one_asked_for(folder):
    assert load_language_model(folder).model.dtype == torch.float32
    assert (
        load_language_model(folder, placement=Placement(dtype=torch.bfloat16)).model.dtype
        == torch.bfloat16
    )


def test_the_head_is_read_with_the_tokens_beside_it(folder):
    assert read_head(folder).tokens == WORDS
    assert read_head(folder / "model.safetensors").tokens == WORDS
    model = tiny_model("llama")
    assert read_head(model).tokens is None
    assert read_head(model, tokenizer=tokenizer()).tokens == WORDS


@pytest.mark.parametrize(
    ("before", "after", "bos"),
    [
        ([], [], []),
        (["<s>"], [], [0]),
        (["<s>"], ["</s>"], [0]),
        ([], ["</s>"], []),
        (["<s>", "</s>"], [], [0, 1]),
    ],
)
def test_what_the_tokenizer_puts_in_front_is_seen(before, after, bos):
    wrapped = load_language_model(
        tiny_model("gpt2"), tokenizer=tokenizer(before=before, after=after)
    )
    assert wrapped.bos == bos
    assert (wrapped.max_positions, wrapped.source) == (64, "GPT2LMHeadModel")


def test_a_model_in_memory_needs_a_tokenizer():
    with pytest.raises(WideneckError, match="pass tokenizer="):
        load_language_model(tiny_model("llama"))


def test_a_folder_needs_a_tokenizer(tmp_path):
    tiny_model("llama").save_pretrained(tmp_path)
    with pytest.raises(WideneckError, match="has no tokenizer"):
        load_language_model(tmp_path)


def test_missing_weights_are_not_filled_with_random_numbers(folder):
    tiny_model("llama").model.save_pretrained(folder)
    with pytest.raises(WideneckError, match=r"lacks 1 of the model's tensors \(lm_head\.weight"):
        load_language_model(folder)


def test_a_file_that_is_not_the_folders_is_refused(folder):
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    with pytest.raises(WideneckError, match="alone is no whole model"):
        load_language_model(folder / "other.safetensors")


@pytest.mark.parametrize("text", ["{}", '{"model_type": "never-heard-of"}', '{"model_type": "t5"}'])
def test_what_transformers_cannot_load_is_one_sentence(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(WideneckError, match="cannot be loaded") as caught:
        load_language_model(folder)
    assert "\n" not in str(caught.value)


def test_a_broken_tokenizer_is_one_sentence(folder):
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(WideneckError, match=r"The tokenizer of .* cannot be loaded") as caught:
        read_head(folder)
    assert "\n" not in str(caught.value)


def test_loading_writes_nothing_to_the_terminal(folder, capsys):
    load_language_model(folder)
    read_head(folder)
    assert capsys.readouterr() == ("", "")


def test_silence_ends_with_the_block():
    before = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    with quiet_transformers():
        assert transformers_logging.get_verbosity() == logging.CRITICAL
    after = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    assert after == before


def test_import_is_free():
    """`wideneck --help` must not wait for torch."""
    import subprocess

    code = "import sys, wideneck.models; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_default_model_runs(capsys):
    loaded = load_language_model(None)
    assert capsys.readouterr() == ("", "")
    head = read_head(None)
    assert torch.equal(loaded.model.lm_head.weight, head.weight)
    assert loaded.max_positions == 8192
    assert loaded.bos == []
    assert [loaded.tokenizer.convert_ids_to_tokens(i) for i in (0, 9, 999)] == [
        (head.tokens or [])[i] for i in (0, 9, 999)
    ]
