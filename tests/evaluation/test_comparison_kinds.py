"""Kinds of tokens against loops over them."""

import torch

from hand_made_tokenizers import byte_level
from tiny_text import character_tokenizer
from wideneck.data import Text, Vocabulary, cut_windows
from wideneck.evaluation.comparison.kinds import continuing, in_context, kinds

DOCUMENTS = [f"hello world {d}, héllo «hell» zz{d}y! " * 8 for d in range(5)]
TEXT = Text(name="hello", documents=DOCUMENTS, sha256="0" * 64)
CHARACTERS = character_tokenizer()


def test_each_prediction_is_in_one_kind_of_each_sort():
    windows = cut_windows(TEXT, CHARACTERS, num_tokens=200, window=40)
    found = list(kinds(TEXT, windows, CHARACTERS))
    for sort in ("count", "position", "context", "word"):
        members = torch.stack([kind.members for kind in found if kind.sort == sort])
        assert (members.sum(0) == 1).all(), sort
    positions = {kind.name: kind.members for kind in found if kind.sort == "position"}
    assert list(positions) == ["1 to 8", "9 to 64"]
    assert positions["1 to 8"][:, :8].all()


def test_counts_are_of_the_text_outside_of_the_windows():
    windows = cut_windows(TEXT, CHARACTERS, num_tokens=200, window=40)
    everywhere = torch.tensor([i for d in DOCUMENTS for i in CHARACTERS(d).input_ids])
    ranges = {"0": (0, 0), "1 to 9": (1, 9), "10 to 99": (10, 99), "100 to 999": (100, 999)}
    for kind in kinds(TEXT, windows, CHARACTERS):
        if kind.sort == "count":
            low, high = ranges[kind.name]
            for token in windows.targets[kind.members].unique():
                elsewhere = (everywhere == token).sum() - (windows.targets == token).sum()
                assert low <= elsewhere <= high


def test_a_target_is_in_its_context_where_it_stands_before_itself():
    windows = cut_windows(TEXT, CHARACTERS, num_tokens=120, window=40)
    for ids, targets, found in zip(
        windows.ids.tolist(), windows.targets.tolist(), in_context(windows), strict=True
    ):
        assert found.tolist() == [y in ids[: t + 1] for t, y in enumerate(targets)]


def test_a_later_piece_of_a_word_follows_a_letter_or_digit():
    tokenizer = byte_level()
    windows = cut_windows(TEXT, tokenizer, num_tokens=120, window=30)
    found = continuing(windows, tokenizer)
    seen = set()
    for ids, targets, row in zip(
        windows.ids.tolist(), windows.targets.tolist(), found.tolist(), strict=True
    ):
        for before, target, later in zip(ids, targets, row, strict=True):
            pieces = tokenizer.decode([before]), tokenizer.decode([target])
            if "\ufffd" not in "".join(pieces):  # half of a character says nothing
                assert later == (pieces[0][-1:].isalnum() and pieces[1][:1].isalnum()), pieces
                seen.add(later)
    assert seen == {True, False}


def test_words_have_no_later_pieces():
    vocabulary = Vocabulary.of(DOCUMENTS)
    windows = cut_windows(TEXT, vocabulary, num_tokens=60, window=20)
    assert not continuing(windows, vocabulary).any()
