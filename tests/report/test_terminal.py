"""The terminal table, as a pipe sees it: 80 columns, no colour, nothing cut off."""

import io

import pytest
from rich.console import Console

from report.examples import (
    head_audit,
    output_audit,
    report,
    series,
    with_unreachable,
)
from wideneck.report.terminal import show, show_series


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


def test_a_narrow_terminal_folds_and_cuts_nothing():
    text = piped(show, report(head_audit(), output_audit()), width=50)
    assert "…" not in text
    assert "2.60" in text


@pytest.mark.parametrize(
    "found",
    [
        report(head_audit(), None),
        report(None, output_audit()),
        report(None, output_audit(methods=("plain", "centred"), half=None)),
    ],
    ids=["head", "output", "few tokens"],
)
def test_sections_may_be_missing(found):
    assert "seed 0" in piped(show, found)


def test_series_flags_identical_heads():
    text = piped(show_series, series([0, 10, 1000]))
    assert "Identical heads" in text
    assert "1,000" in text
    assert "Gaussian" in text
    assert "Identical" not in piped(show_series, series([0, 10], identical=False))
