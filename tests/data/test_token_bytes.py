"""Bytes of each token against the text itself."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tiny_text import character_tokenizer
from wideneck.data import Vocabulary, encode_documents, token_bytes

DOCUMENTS = ("one two\n\n  three é\n", "€ four\tfive", "six 😀 seven\n")


def test_a_word_has_the_space_before_it_and_an_eos_its_line_end():
    vocabulary = Vocabulary.of(DOCUMENTS)
    sizes = token_bytes(DOCUMENTS, vocabulary)
    assert sizes.tolist() == [
        *(3, 4, 1, 1, 7, 3, 1),  # one, two, <eos>, <eos>, three, é, <eos>
        *(3, 5, 5, 0),  # the last line has no end, so its <eos> stands for nothing
        *(3, 5, 6, 1),
    ]
    assert len(sizes) == len(encode_documents(DOCUMENTS, vocabulary).ids)


@pytest.fixture(scope="module")
def byte_level():
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=270,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(["one two three four five six seven"] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>")


def test_a_token_of_bytes_has_as_many_and_the_eos_between_documents_none(byte_level):
    """But a character in several tokens belongs to the first of them."""
    encoded = encode_documents(DOCUMENTS, byte_level)
    sizes = token_bytes(DOCUMENTS, byte_level)
    assert len(sizes) == len(encoded.ids)
    assert (sizes[encoded.ids == byte_level.eos_token_id] == 0).all()
    assert int(sizes.sum()) == sum(len(document.encode()) for document in DOCUMENTS)
    read = 0
    for token, size in zip(encoded.ids.tolist(), sizes.tolist(), strict=True):
        if byte_level.decode([token]).isascii() and token != byte_level.eos_token_id:
            assert size == len(byte_level.decode([token]))
            read += 1
    assert read > 10


@pytest.mark.parametrize("tokens", ["words", "bytes", "characters"])
def test_they_are_the_bytes_of_the_text_whatever_the_pieces(byte_level, monkeypatch, tokens):
    from wideneck.data import tokenizing

    tokenizer = {
        "words": Vocabulary.of(DOCUMENTS),
        "bytes": byte_level,
        "characters": character_tokenizer(),
    }[tokens]
    document = "".join(f"line {k}\n" for k in range(40))
    before = token_bytes([document], tokenizer)
    assert int(before.sum()) == len(document)
    real = tokenizing.pieces
    monkeypatch.setattr(tokenizing, "pieces", lambda text: real(text, 20))
    assert torch.equal(token_bytes([document], tokenizer), before)


@pytest.mark.parametrize("character", "\x7f\x80\u07ff\u0800\u08ff\u0900\uffff\U00010000")
def test_a_character_has_its_bytes_up_to_the_ends_of_each_length(byte_level, character):
    sizes = token_bytes([f"a{character}b"], byte_level).tolist()
    assert sizes[0] == sizes[-1] == 1
    assert sum(sizes) == 2 + len(character.encode())
