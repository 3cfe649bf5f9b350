"""Which docstrings are pairs of a summary and a body, and that splits keep modules apart."""

from dataclasses import replace
from pathlib import Path

import pytest

from wideneck.errors import WideneckError
from wideneck.lab.tasks import docstrings
from wideneck.lab.tasks.docstrings import Source, docstring_pairs, pairs_of
from wideneck.lab.tasks.pairs import Pair

BODY = " ".join(["word"] * 15)
FUNCTION = '''
def f():
    """{}

    {}
    """
'''


def test_a_pair_is_the_first_line_and_the_rest():
    code = FUNCTION.format("Return the sum of values.", f"{BODY}\n\n    Returns: it")
    assert list(pairs_of(code.encode())) == [
        Pair(source=f"{BODY} Returns: it", target="Return the sum of values.")
    ]


@pytest.mark.parametrize(
    ("summary", "body"),
    [
        ("Too short here.", BODY),
        (" ".join(["long"] * 26), BODY),
        ("Return the sum of values.", "a short body"),
        ("Return the sum of values.", " ".join(["word"] * 201)),
        ("Return >>> f(3) of values.", BODY),
        ("A summary of which the sentence\n    goes on.", BODY),
    ],
)
def test_what_is_no_pair(summary, body):
    assert not list(pairs_of(FUNCTION.format(summary, body).encode()))


@pytest.mark.parametrize("code", [b"def f(:", b"print 3", b"\x00", b"\xff\xfe"])
def test_a_file_that_is_not_python_has_none(code):
    assert not list(pairs_of(code))


def written(folder: Path) -> list[Source]:
    """Forty modules of two functions; two share a body, and neighbours a summary."""
    for number in range(40):
        first = f"{BODY} {max(number, 1)}"
        code = FUNCTION.format(f"Return the number {number} here.", first)
        code += FUNCTION.format(f"Give the second {number // 2} here.", f"{BODY} second {number}")
        (folder / f"module{number}.py").write_text(code)
    return [Source(name="made", version="1", folder=folder)]


def test_splits_share_no_module_body_or_target(tmp_path, monkeypatch):
    monkeypatch.setattr(docstrings, "sources", lambda: written(tmp_path))
    pairs = docstring_pairs(seed=3)
    assert pairs.counts == {"made 1": 79}
    splits = [pairs.train, pairs.valid, pairs.test]
    assert [len(split) for split in splits][1:] in ([8, 8], [7, 8], [8, 7])
    numbers = [{pair.source.split()[-1] for pair in split} for split in splits]
    assert not numbers[0] & numbers[2]
    assert not numbers[0] & numbers[1]
    bodies = [pair.source for split in splits for pair in split]
    assert len(bodies) == len(set(bodies))
    targets = [{pair.target for pair in split} for split in splits]
    assert not targets[0] & (targets[1] | targets[2])
    assert docstring_pairs(seed=3) == pairs != docstring_pairs(seed=4)


def test_no_source_files_is_one_sentence(tmp_path, monkeypatch):
    empty = replace(written(tmp_path)[0], folder=tmp_path / "empty")
    empty.folder.mkdir()
    monkeypatch.setattr(docstrings, "sources", lambda: [empty])
    with pytest.raises(WideneckError, match="No docstrings were found"):
        docstring_pairs()
