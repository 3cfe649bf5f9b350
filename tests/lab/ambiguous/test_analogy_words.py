"""Reading Google's analogy questions."""

import gzip
import sys

import pytest
from small_analogies import PAIRS, lines, read

from wideneck.errors import WideneckError
from wideneck.lab.ambiguous.words import SECTIONS, Question, read_analogies


def test_the_four_sections_are_read_in_the_order_of_the_task(tmp_path):
    analogies = read(tmp_path)
    assert list(analogies) == list(SECTIONS)
    for name, questions in analogies.items():
        assert len(questions) == len(PAIRS[name]) * (len(PAIRS[name]) - 1)
        assert {question.kind for question in questions} == {SECTIONS[name]}
    assert analogies["family"][0] == Question("people", "king", "queen", "he", "she")


def test_a_question_has_two_pairs_and_two_diagonals():
    question = Question("location", "Oslo", "Norway", "Rome", "Italy")
    assert question.pairs == (("Oslo", "Norway"), ("Rome", "Italy"))
    assert question.diagonals == (("Oslo", "Italy"), ("Norway", "Rome"))


@pytest.mark.parametrize("packed", [False, True])
def test_gzip_windows_line_ends_blank_lines_and_a_byte_order_mark_change_nothing(tmp_path, packed):
    content = ("\ufeff" + "\r\n\r\n".join(lines())).encode()
    # The content decides, not the name.
    (tmp_path / "a.txt").write_bytes(gzip.compress(content) if packed else content)
    assert read_analogies(tmp_path / "a.txt") == read(tmp_path)


def test_a_section_that_is_not_used_may_hold_anything(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join([*lines(), ": other", "one", "a b c d e f"]))
    assert read_analogies(tmp_path / "a.txt") == read(tmp_path)


def _replaced(old: str, new: str) -> bytes:
    return "\n".join(lines()).replace(old, new).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "There is no analogy file"),
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"\n" + lines()[1].encode(), "Line 2 of .* before any section"),
        (_replaced("Tampa Florida Reno Nevada", "Tampa Reno Nevada"), "Line 13 of .* has 3 words"),
        (_replaced(": family", ": capital-world"), "starts the section capital-world a second"),
        (_replaced(": family", ": parents"), "no question in the section family"),
        (b": family\n" + _replaced(": family", ": parents"), "no question in the section family"),
        (b": family\na b c d\n\xff b c d\n", "is not UTF-8 text .* in line 3"),
        (gzip.compress(b": family\na b c d\n", mtime=0)[:-9], "damaged gzip"),
        (b"\x1f\x8b nothing that gzip knows", "damaged gzip"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(WideneckError, match=message) as raised:
        read_analogies(tmp_path / "a.txt")
    assert "\n" not in str(raised.value)


def test_a_folder_is_no_analogy_file(tmp_path):
    with pytest.raises(WideneckError, match="is a folder and no analogy file"):
        read_analogies(tmp_path)


def test_the_file_in_gensim_is_found_without_importing_gensim(tmp_path, monkeypatch):
    data = tmp_path / "gensim" / "test" / "test_data"
    data.mkdir(parents=True)
    (tmp_path / "gensim" / "__init__.py").write_text("raise RuntimeError('imported')")
    read(data)
    monkeypatch.delitem(sys.modules, "gensim", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert read_analogies() == read(tmp_path)


def test_without_a_file_and_gensim_the_user_is_told_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "gensim", None)  # as if it were not installed
    with pytest.raises(WideneckError, match="pip install --no-deps gensim"):
        read_analogies()
