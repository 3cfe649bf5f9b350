"""The numbers of papers, as they are shipped."""

import pytest

from wideneck.papers.published import published_table


def test_table_1_of_histalign_is_whole():
    table = published_table("histalign")
    assert "2305.04782" in table.url
    assert table.status == "found verbatim in the paper"
    names = [(row.model, row.method) for row in table.rows]
    assert names == [
        (model, method)
        for model in ("GPT2-small", "GPT2-large")
        for method in ("fine-tuned", "TRIME", "HistAlign")
    ]
    for row in table.rows:
        for numbers in (row.full, row.cache):
            assert list(numbers) == ["2", "5", "10", "25"]
            assert list(numbers.values()) == sorted(numbers.values())  # more are allowed
            assert all(0 <= number <= 100 for number in numbers.values())


def test_the_published_gap_is_that_of_the_paper():
    table = published_table("histalign")
    trime, histalign = table.row("GPT2-small", "TRIME"), table.row("GPT2-small", "HistAlign")
    assert histalign.full["2"] - trime.full["2"] == pytest.approx(63.47 - 46.43)
    assert histalign.cache["2"] - trime.cache["2"] == pytest.approx(58.62)
    assert (trime.rank, histalign.rank) == (836, 854)
