"""Counts of a text outside of the windows that a measurement reads."""

import torch

from tiny_text import CHARACTERS, character_tokenizer
from wideneck.data import Text, counts
from wideneck.data.counts import counts_elsewhere

DOCUMENTS = ["aab", "bbbc", "cd", "ddddd"]


def counted(document, targets, vocab_size=96):
    text = Text(name="planted", documents=DOCUMENTS, sha256="")
    ids = torch.tensor([[CHARACTERS.index(c) for c in row] for row in targets])
    found = counts_elsewhere(text, character_tokenizer(), vocab_size, ids, torch.tensor(document))
    return {CHARACTERS[i]: n for i, n in enumerate(found.tolist()) if n}


def test_every_document_counts_less_the_targets_of_the_windows():
    assert counted([0, 3], ["ab", "dd"]) == {"a": 1, "b": 3, "c": 2, "d": 4}


def test_of_a_long_text_the_documents_that_were_read_count_and_some_of_the_others(monkeypatch):
    monkeypatch.setattr(counts, "COUNTED", 2)
    assert counted([3], ["d"]) == {"a": 2, "d": 4}


def test_ids_beyond_the_matrix_are_left_out():
    assert counted([0], ["a"], CHARACTERS.index("c")) == {"a": 1, "b": 4}
