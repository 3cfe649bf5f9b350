"""Prompts to ids: whole words, and the pieces of tokenizers of several kinds."""

import pytest
import torch
from small_analogies import read
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tiny_text import character_tokenizer
from wideneck.errors import WideneckError
from wideneck.lab.ambiguous.encoding import IGNORE, Pieces, Vocabulary, accepted_ids, encode_rows
from wideneck.lab.ambiguous.words import Prompt, make_prompts

TEXT = ["The king and the queen went to Oslo and Rome and the", "Oslo and Rome are in Italy"]
PROMPT = Prompt("The king and the queen went to the", ("queen", "king"))


def byte_level(**marks) -> PreTrainedTokenizerFast:
    """As GPT-2: bytes, a space belongs to the word after it, nothing put in front."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|end|>", "<|start|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(TEXT, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, **marks)


def metaspace() -> PreTrainedTokenizerFast:
    """As Llama 2: every text starts as if after a space; bos in front, and here eos at the end."""
    inner = Tokenizer(models.BPE(unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    inner.decoder = decoders.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=120, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False
    )
    inner.train_from_iterator(TEXT, trainer)
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", unk_token="<unk>")


TOKENIZERS = {
    "byte-level": lambda: byte_level(bos_token="<|start|>", eos_token="<|end|>"),
    "metaspace": metaspace,
}


@pytest.fixture(params=[*TOKENIZERS, "words"])
def encoding(request, tmp_path):
    if request.param == "words":
        return Vocabulary(read(tmp_path))
    return Pieces(TOKENIZERS[request.param]())


def test_a_row_is_the_prompt_and_then_its_label(encoding, tmp_path):
    words = PROMPT.words
    prompts = make_prompts(q for some in read(tmp_path).values() for q in some)[:40]
    rows = encode_rows(encoding, prompts)
    texts = encoding.prompt_ids([prompt.text for prompt in prompts])
    assert len(rows) == 80
    for i, row in enumerate(rows):
        target = encoding.target_ids(prompts[i // 2].words[i % 2])
        assert row.ids == texts[i // 2] + target
        assert row.labels == [IGNORE] * len(texts[i // 2]) + target
    assert encoding.target_ids(words[0]) != encoding.target_ids(words[1])


def test_the_first_piece_of_a_label_is_accepted(encoding):
    first, second = accepted_ids(encoding, [PROMPT, PROMPT])
    assert first.dtype == torch.int64
    assert len(first) == len(second) == 2
    for ids, word in zip((first, second), PROMPT.words, strict=True):
        assert encoding.target_ids(word)[0] in ids[0]
        assert ids[0][ids[0] >= 0].tolist() == encoding.accepted_ids(word)


def test_no_prompt_gives_no_row(encoding):
    assert encode_rows(encoding, []) == []
    assert [len(ids) for ids in accepted_ids(encoding, [])] == [0, 0]


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("word", ["queen", "Oslo", "grandmothers"])
def test_prompt_and_label_are_cut_as_the_whole_text_is(name, word):
    tokenizer = TOKENIZERS[name]()
    encoding = Pieces(tokenizer)
    (row, _) = encode_rows(encoding, [Prompt(PROMPT.text, (word, "king"))])
    whole = tokenizer(f"{PROMPT.text} {word}", add_special_tokens=False).input_ids
    assert row.ids == encoding.prefix + whole


def test_what_the_tokenizer_puts_in_front_stays_alone_there_and_what_it_adds_goes():
    encoding = Pieces(metaspace())
    (ids,) = encoding.prompt_ids([PROMPT.text])
    assert ids[0] == 1
    assert 1 not in ids[1:]
    assert 2 not in ids


@pytest.mark.parametrize(
    ("marks", "prefix"),
    [({"bos_token": "<|start|>", "eos_token": "<|end|>"}, [1]), ({"eos_token": "<|end|>"}, [0])],
)
def test_bos_or_else_eos_stands_in_front_where_a_tokenizer_puts_nothing(marks, prefix):
    (ids,) = Pieces(byte_level(**marks)).prompt_ids(["The king"])
    assert ids[:1] == prefix
    assert not {0, 1} & set(ids[1:])


def test_a_tokenizer_with_nothing_for_the_front_is_refused():
    with pytest.raises(WideneckError, match="neither a bos nor an eos token"):
        Pieces(byte_level())


def test_a_word_at_the_start_of_a_sentence_is_another_id_and_counts_as_well():
    tokenizer = byte_level(bos_token="<|start|>")
    with_space, without = (tokenizer(text).input_ids[0] for text in (" Oslo", "Oslo"))
    assert with_space != without
    assert Pieces(tokenizer).accepted_ids("Oslo") == [with_space, without]


def test_one_id_with_and_without_a_space_is_named_once():
    assert len(Pieces(metaspace()).accepted_ids("queen")) == 1


def test_words_of_fewer_ids_are_padded():
    encoding = Pieces(byte_level(bos_token="<|start|>"))
    encoding.accepted_ids = {"a": [5, 6], "b": [7]}.__getitem__
    first, second = accepted_ids(encoding, [Prompt("", ("a", "b"))])
    assert (first.tolist(), second.tolist()) == ([[5, 6]], [[7, -1]])


def test_a_first_piece_that_every_word_shares_is_refused():
    with pytest.raises(WideneckError, match="' ', says nothing of the word"):
        Pieces(character_tokenizer()).accepted_ids("queen")


def test_an_unknown_word_is_refused():
    with pytest.raises(WideneckError, match="'<unk>', says nothing of the word"):
        Pieces(unknown_words()).accepted_ids("queen")


def unknown_words() -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.WordLevel({"<unk>": 0, "the": 1, "a": 2}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<unk>", unk_token="<unk>")


def test_every_word_of_a_prompt_is_one_token_and_comes_back(tmp_path):
    analogies = read(tmp_path)
    vocabulary = Vocabulary(analogies)
    prompts = make_prompts(q for some in analogies.values() for q in some)
    for prompt, ids in zip(prompts, vocabulary.prompt_ids([p.text for p in prompts]), strict=True):
        assert ids[0] == vocabulary.bos
        assert [vocabulary.words[i] for i in ids[1:]] == prompt.text.split()


def test_a_vocabulary_is_the_same_for_the_same_words_and_keeps_case(tmp_path):
    first, second = Vocabulary(read(tmp_path)), Vocabulary(read(tmp_path))
    assert first.words == second.words
    assert len(first) == len(set(first.words))
    assert first.target_ids("The") != first.target_ids("the")


def test_a_word_of_other_analogies_is_refused(tmp_path):
    with pytest.raises(WideneckError, match="has no 'Bern'"):
        Vocabulary(read(tmp_path)).target_ids("Bern")
