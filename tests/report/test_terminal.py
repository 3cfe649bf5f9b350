"""The terminal table, as a pipe sees it: 80 columns, no colour, nothing cut off."""

import dataclasses
import io

import pytest
from rich.console import Console

from report.attention_examples import attention_audit
from report.examples import (
    around,
    head_audit,
    output_audit,
    report,
    series,
    with_unreachable,
)
from report.memory_examples import memory_audit
from wideneck.audits.token import TokenRef
from wideneck.report.html import render
from wideneck.report.parts import BOTH, Column, Table
from wideneck.report.terminal import print_blocks, show


def piped(function, found, encoding: str = "utf-8", width: int = 80) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    function(found, Console(file=stream, width=width))
    stream.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_holds_the_key_figures(encoding):
    text = piped(show, report(with_unreachable(head_audit()), output_audit()), encoding)
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80
    for expected in (
        "2.60 [2.50, 2.70]",
        "4.38 uniform",
        "never the most probable",
        "0.20 [0.10, 0.30]",
        "20.0 % at random",
        "<script>",
        "Note: a note with <tags>",
    ):
        assert expected in text
    assert "…" not in text


@pytest.mark.parametrize("width", [50, 79])
def test_a_narrow_terminal_folds_and_cuts_nothing(width):
    found = report(head_audit(), output_audit(), attention_audit(), memory_audit())
    text = piped(show, found, width=width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for expected in ("2.60", "unigram", "visible", "chance", "1.234", "identity", "-89.1"):
        assert expected in text


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_holds_the_attention_figures_with_their_baselines(encoding):
    text = piped(show, report(None, None, attention_audit(30, 9)), encoding)
    assert max(map(len, text.splitlines())) <= 80
    for expected in (
        "256 visible, mean",
        "below 0 to 0.990",
        "derived bounds",
        "[0.6970, 0.7030]",
        "layer 1, head 1",
        "of 270 heads",
        "about 6.8 by chance",
        "3.32 % of 512",
        "entmax(alpha=1.5)",
        "<i>sigmoid</i>[b]",
        "[1.224, 1.244]",
    ):
        assert expected in text


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_holds_the_memory_figures_with_their_baselines(encoding):
    text = piped(show, report(None, None, memory=memory_audit()), encoding)
    assert max(map(len, text.splitlines())) <= 80
    for expected in (
        "60.3 %",
        "[59.3, 61.3]",
        "39.0 % other text",
        "0.330 token identity",
        "0.0520 chance",
        "as published, untrained",
        "-89.1",
        "99.8 %",
        "[-31.810, -31.790]",
    ):
        assert expected in text
    text = piped(show, report(None, None, memory=memory_audit(caches=False)), encoding)
    assert "No cache was measured: one window of text" in text


@pytest.mark.parametrize(
    ("half", "words"),
    [
        (0.1, "95 % intervals over 8 documents, worth 6.5 of equal length"),
        (None, "no 95 % interval: 1 document is one sample"),
    ],
)
def test_terminal_and_page_say_what_the_documents_of_an_interval_are_worth(half, words):
    found = report(None, output_audit(half=half))
    assert words in " ".join(piped(show, found).split())
    assert words in " ".join(render(found).replace("\u00a0", " ").split())


@pytest.mark.parametrize("section", ["attention", "memory"])
def test_so_do_attention_and_memory(section):
    audits = {"attention": attention_audit, "memory": memory_audit}
    found = report(None, None, **{section: audits[section]()})
    for text in (piped(show, found), render(found).replace("\u00a0", " ")):
        said = " ".join(text.split())
        assert "n brackets: 95 % intervals over" in said


def test_a_wide_interval_folds_and_pushes_nothing_out():
    audit = attention_audit()
    heads = [
        dataclasses.replace(head, ablation=around(-0.000012, 0.000031)) for head in audit.heads
    ]
    text = piped(show, report(None, None, dataclasses.replace(audit, heads=heads)))
    assert max(map(len, text.splitlines())) <= 80
    for expected in ("[-0.000043,", "0.000019]", "below 0 to 0.990", "derived bounds"):
        assert expected in text


@pytest.mark.parametrize(
    "found",
    [
        report(head_audit(), None),
        report(None, output_audit()),
        report(None, output_audit(methods=("plain", "centred"), half=None)),
        report(None, None, attention_audit(ablation=False, half=None, comparison=False)),
        report(None, None, memory=memory_audit(ranked=False, half=None, elsewhere=False)),
    ],
    ids=["head", "output", "few tokens", "attention", "memory"],
)
def test_sections_may_be_missing(found):
    assert "seed 0" in piped(show, found)


def test_series_flags_identical_heads():
    text = piped(show, series([0, 10, 1000]))
    assert "Identical heads" in text
    assert "1,000" in text
    assert "Gaussian" in text
    assert "Identical" not in piped(show, series([0, 10], identical=False))


def test_a_group_of_a_whole_vocabulary_is_cut():
    tokens = [TokenRef(token=i, string=f"w{i}") for i in range(150_000)]
    head = head_audit()
    rows = dataclasses.replace(head.rows, duplicates=[tokens])
    head = dataclasses.replace(head, rows=rows, argmaxable=None)
    text = piped(show, report(head, None))
    assert "w3 (3) = 149,996 more" in " ".join(text.split())
    assert "w4 (4)" not in text
    page = render(report(head, None))
    assert "w149999 (149999)" in page  # all of it, closed, as plain text
    assert "<details><summary>150,000 tokens in 1 group<" in page
    assert len(page) < 2**22


def table(*rows, heads=("value", "verdict"), **more):
    columns = [Column(head, words=head == "verdict") for head in heads]
    return Table("A table", columns, rows, titled=True, face=BOTH, **more)


def drawn(block, width=80):
    return piped(lambda one, console: print_blocks([one], console), block, width=width)


def test_a_row_without_cells_goes_over_all_columns_and_the_rest_stays_in_line():
    said = "what the paper says, which is longer than all columns are wide"
    block = table((said, "", []), ("ours", "", ["1", "holds"]), ("more", "", ["-10.5", "open"]))
    title, _, _, whole, *lines = drawn(block).splitlines()
    assert (title, whole) == ("A table", said)
    assert [line.rstrip() for line in lines] == ["ours     1 holds", "more -10.5 open"]
    folded = drawn(block, width=16).splitlines()
    assert max(map(len, folded)) <= 16
    assert folded[-1].split() == ["more", "-10.5", "open"]


def test_rows_that_are_not_ours_are_set_back():
    block = table(("ours", "", ["1", "a"]), ("theirs", "", ["2", "b"]), beside=[1])
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="standard")
    print_blocks([block], console)
    ours, theirs = console.file.getvalue().splitlines()[-2:]
    assert "\x1b[2m" in theirs
    assert "\x1b[2m" not in ours


def test_heads_fold_before_cells_do():
    block = table(("a b c d", "", ["-0.0153 ± 0.0107", "no"]), heads=("value", "a long head"))
    lines = drawn(block, width=31).splitlines()
    assert lines[-1].rstrip().split("  ")[0] == "a b c d -0.0153 ± 0.0107"
    assert [line.split()[-1] for line in lines[1:3]] == ["long", "head"]
