"""Corpora as ids, by words and by tokenizers."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tiny_text import character_tokenizer
from wideneck.data import (
    Corpus,
    Data,
    Vocabulary,
    encode_corpus,
    encode_documents,
    read_corpus,
    recipe_tokenizer,
)
from wideneck.data import encoded as module
from wideneck.errors import WideneckError

LINES = [f"{k} green bottles hanging on the wall, line {k % 7}.\n" for k in range(60)]
CORPUS = Corpus(
    name="bottles",
    train=("".join(LINES[:30]), "".join(LINES[30:50])),
    valid=("".join(LINES[50:55]),),
    test=("".join(LINES[55:]) + "\n é",),
    sha256="0",
)


@pytest.fixture(scope="module")
def bpe():
    """A byte-level BPE, as GPT-2's, whose eos token is no text."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(LINES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>", bos_token="<end>")


def test_words_are_counted_with_an_eos_for_every_line():
    encoded = encode_corpus(CORPUS, Data())
    words = "".join(CORPUS.train).split()
    assert len(encoded.train.ids) == len(words) + 50
    assert encoded.train.num_lines == 50
    assert encoded.vocab_size == len({*words, "<eos>", "<unk>"}) == len(encoded.tokenizer)
    assert encoded.test is not None
    assert encoded.test.ids.tolist()[-3:] == [
        encoded.tokenizer.eos_id,  # of the blank line
        encoded.tokenizer.unk_id,
        encoded.tokenizer.eos_id,  # of the line without an end
    ]
    assert encoded.test.num_lines == 7
    assert encoded.tokenizer_name == "words"


@pytest.mark.parametrize("tokens", ["words", "bpe"])
def test_lines_are_counted_over_documents_and_a_last_one_without_an_end_counts(bpe, tokens):
    tokenizer = bpe if tokens == "bpe" else Vocabulary.of(CORPUS.train)
    encoded = encode_documents(("aé€\n", "😀"), tokenizer)
    assert encoded.num_lines == 2


def test_a_vocabulary_size_makes_the_rest_unknown():
    encoded = encode_corpus(CORPUS, Data(vocab_size=5, expect={"vocab_size": 5}))
    assert encoded.vocab_size == 5
    assert int(encoded.train.ids.max()) == 4
    assert (encoded.train.ids == encoded.tokenizer.unk_id).any()


def test_a_tokenizer_gives_the_tokens_of_each_document_and_an_eos_between(bpe):
    encoded = encode_documents(CORPUS.train, bpe)
    first, second = (bpe(document).input_ids for document in CORPUS.train)
    assert encoded.ids.tolist() == [*first, bpe.eos_token_id, *second]
    assert encoded.ids.dtype == torch.long


def test_a_tokenizer_adds_no_special_tokens():
    tokenizer = character_tokenizer(bos=True)
    ids = encode_documents(("abc",), tokenizer).ids
    assert tokenizer.convert_ids_to_tokens(ids.tolist()) == ["a", "b", "c"]


@pytest.mark.parametrize("size", [1, 40, 200, 2000])
def test_pieces_change_neither_the_text_nor_the_eos(bpe, monkeypatch, size):
    whole = encode_documents(CORPUS.train, bpe)
    real = module.pieces
    monkeypatch.setattr(module, "PIECE", size)
    monkeypatch.setattr(module, "pieces", lambda text: real(text, size))
    cut = encode_documents(CORPUS.train, bpe)
    assert bpe.decode(cut.ids.tolist()) == "<end>".join(CORPUS.train)
    assert cut.num_lines == whole.num_lines
    assert len(cut.ids) >= len(whole.ids)  # a merge that a border parts costs a token


def test_a_tokenizer_without_an_eos_is_fine_for_one_document_only():
    tokenizer = character_tokenizer()
    assert encode_documents(CORPUS.valid, tokenizer).num_lines == 5
    with pytest.raises(WideneckError, match="no eos token to put between the 2 documents"):
        encode_documents(CORPUS.train, tokenizer)


def test_a_recipe_names_a_tokenizer_by_its_folder_or_file(bpe, tmp_path):
    bpe.save_pretrained(tmp_path)
    data = [Data(tokens=str(path)) for path in (tmp_path, tmp_path / "tokenizer.json")]
    folder, file = (encode_corpus(CORPUS, d) for d in data)
    assert folder.train.ids.equal(encode_documents(CORPUS.train, bpe).ids)
    assert folder.vocab_size == len(bpe)
    assert folder.tokenizer_name == str(tmp_path)
    assert (folder.sha256, folder.vocabulary_sha256) == (file.sha256, file.vocabulary_sha256)


def test_a_tokenizer_in_the_local_cache_needs_no_network(bpe, tmp_path, monkeypatch):
    from huggingface_hub import constants

    commit = "0" * 40
    place = tmp_path / "models--org--small"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    bpe.save_pretrained(place / "snapshots" / commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    tokenizer = recipe_tokenizer("org/small")
    assert tokenizer.eos_token == "<end>"
    assert tokenizer("green").input_ids == bpe("green").input_ids
    with pytest.raises(WideneckError, match="HF_HUB_OFFLINE is set and org/other is not in the"):
        recipe_tokenizer("org/other")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a/b/c", 'tokens = "a/b/c" is no tokenizer: expected "words", "default"'),
        ("empty", "empty holds no tokenizer"),
        ("notes.txt", "notes.txt. is no tokenizer: expected"),
        ("broken", "The tokenizer of .*broken cannot be loaded"),
    ],
)
def test_what_is_no_tokenizer_is_one_sentence(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "tokenizer.json").write_text("{")
    with pytest.raises(WideneckError, match=message):
        encode_corpus(CORPUS, Data(tokens=name))


def test_the_digests_tell_the_text_and_the_vocabulary():
    encoded = encode_corpus(CORPUS, Data())
    again = encode_corpus(CORPUS, Data(expect={"train": len(encoded.train.ids)}))
    cut = encode_corpus(CORPUS, Data(vocab_size=20))
    other = Corpus(name="", train=CORPUS.train, valid=CORPUS.train, test=None, sha256="")
    text = encode_corpus(other, Data())
    assert (encoded.sha256, encoded.vocabulary_sha256) == (again.sha256, again.vocabulary_sha256)
    assert encoded.vocabulary_sha256 != cut.vocabulary_sha256
    assert encoded.vocabulary_sha256 == text.vocabulary_sha256
    assert len({encoded.sha256, cut.sha256, text.sha256}) == 3


def test_expected_counts_that_come_out_say_nothing():
    first = encode_corpus(CORPUS, Data())
    assert first.test is not None
    counts = {
        "train": len(first.train.ids),
        "valid": len(first.valid.ids),
        "test": len(first.test.ids),
        "vocab_size": first.vocab_size,
    }
    assert encode_corpus(CORPUS, Data(expect=counts)).sha256 == first.sha256


@pytest.mark.parametrize(
    ("expect", "message"),
    [
        ({"train": 3}, r"bottles has 500 tokens in the train split, and data.expect says 3:"),
        ({"valid": 12345}, "bottles has 50 tokens in the valid split, and data.expect says 12,345"),
        ({"vocab_size": 3}, "bottles has 66 words in the vocabulary, and data.expect says 3"),
        ({"test": 3}, "bottles has no test split, and data.expect says 3"),
    ],
)
def test_a_count_that_is_not_the_expected_one_is_one_sentence(expect, message):
    corpus = Corpus(name="bottles", train=CORPUS.train, valid=CORPUS.valid, test=None, sha256="")
    with pytest.raises(WideneckError, match=message):
        encode_corpus(corpus, Data(expect=expect))


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_a_split_of_one_token_is_refused(bpe, tmp_path, split):
    bpe.save_pretrained(tmp_path / "tokenizer")
    contents = {"train": "ab", "valid": "ab", "test": "ab", split: "a"}
    (tmp_path / "text").mkdir()
    for name, content in contents.items():
        (tmp_path / "text" / f"{name}.txt").write_text(content)
    with pytest.raises(WideneckError, match=f"The {split} split of .* has 1 tokens; one is pred"):
        encode_corpus(read_corpus(str(tmp_path / "text")), Data(tokens=str(tmp_path / "tokenizer")))
