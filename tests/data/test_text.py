"""Documents and windows."""

import gzip
from itertools import pairwise

import pytest

from tiny_text import character_tokenizer, write_text
from wideneck.data import cut_windows, default_text, read_text
from wideneck.errors import WideneckError


def test_a_plain_file_is_one_document(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    assert read_text(tmp_path / "a.txt").documents == ["one\n\ntwo\n"]


@pytest.mark.parametrize("separator", ["\f", "<|endoftext|>"])
def test_a_file_says_where_its_documents_end(tmp_path, separator):
    (tmp_path / "a.txt").write_text(f"one{separator}two{separator}\n")
    assert read_text(tmp_path / "a.txt").documents == ["one", "two"]


def test_wikitext_headings_part_articles_and_not_their_sections(tmp_path):
    first = " = First = \n \n a b \n = = Section = = \n x = y \n = = = Part = = = \n = 3 . \n"
    second, third = " = A = B = \n d = \n", " = 10 = \n"
    (tmp_path / "a.txt").write_text(f" \n{first}{second}{third}")
    assert read_text(tmp_path / "a.txt").documents == [first, second, third]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "There is no text file"),
        (b"", "is empty"),
        (b" \n\f ", "is empty"),
        (b"\x1f\x8b\x08\x00", "cannot be unpacked"),
    ],
)
def test_a_text_that_cannot_be_used_is_one_sentence(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(WideneckError, match=message):
        read_text(tmp_path / "a.txt")


def test_a_folder_is_no_text(tmp_path):
    with pytest.raises(WideneckError, match="is a folder and no text file: give the path of a reg"):
        read_text(tmp_path)


def test_a_text_shorter_than_a_window_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("short")
    with pytest.raises(WideneckError, match="5 tokens, and a window of 8 predictions needs 9"):
        cut_windows(read_text(tmp_path / "a.txt"), character_tokenizer(), num_tokens=64, window=8)


def test_windows_are_pieces_of_their_documents(tmp_path):
    text = read_text(write_text(tmp_path / "a.txt"))
    tokenizer = character_tokenizer()
    windows = cut_windows(text, tokenizer, num_tokens=400, window=20, prefix=[0], seed=3)
    assert windows.ids.shape == (20, 21)
    for ids, targets, document, num_bytes in zip(
        windows.ids, windows.targets, windows.document, windows.num_bytes, strict=True
    ):
        assert ids[0] == 0
        piece = "".join(tokenizer.convert_ids_to_tokens([*ids[1:].tolist(), int(targets[-1])]))
        assert piece in text.documents[document]
        assert ids[2:].tolist() == targets[:-1].tolist()
        assert num_bytes == len(piece) - 1


def test_few_tokens_still_come_from_every_document(tmp_path):
    text = read_text(write_text(tmp_path / "a.txt"))
    windows = cut_windows(text, character_tokenizer(), num_tokens=60, window=10)
    assert windows.num_documents == 6


def test_windows_never_overlap_and_stop_where_the_text_does(tmp_path):
    text = read_text(write_text(tmp_path / "a.txt", documents=1))
    windows = cut_windows(text, character_tokenizer(), num_tokens=10**6, window=50)
    places = sorted(
        text.documents[0].index("".join(character_tokenizer().convert_ids_to_tokens(row.tolist())))
        for row in windows.ids
    )
    assert len(places) >= len(text.documents[0]) // 50 - 2
    assert all(b - a >= 50 for a, b in pairwise(places))


def test_the_seed_decides_the_windows(tmp_path):
    text = read_text(write_text(tmp_path / "a.txt"))
    first, again, other = (
        cut_windows(text, character_tokenizer(), num_tokens=60, window=10, seed=s).ids
        for s in (0, 0, 1)
    )
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


def test_bytes_are_counted_in_utf8(tmp_path):
    (tmp_path / "a.txt").write_text("aé€😀" * 3, encoding="utf-8")
    windows = cut_windows(
        read_text(tmp_path / "a.txt"), character_tokenizer(), num_tokens=8, window=8
    )
    assert windows.num_bytes.item() == 20


def test_the_default_text_is_there():
    assert len(default_text().documents) > 50


def test_a_text_may_be_compressed(tmp_path):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"one\r\n\ftwo"))
    assert read_text(tmp_path / "a.txt.gz").documents == ["one\n", "two"]
