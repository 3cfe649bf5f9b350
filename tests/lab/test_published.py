"""The numbers of papers, as they are shipped."""

import pytest

from wideneck.config import HEADS
from wideneck.lab.published import (
    STATUSES,
    published_results,
    read_published,
)
from wideneck.lab.registry import PAPERS


def test_table_1_of_histalign_is_whole():
    published = published_results("histalign")
    assert "2305.04782" in published.url
    assert {(r.table, r.status) for r in published.results} == {("Table 1", "verified")}
    for model in ("GPT2-small", "GPT2-large"):
        for method in ("fine-tuned", "TRIME", "HistAlign"):
            found = {r.measure: r.value for r in published.find(data=model, row=method)}
            assert len(found) == 2 * 4 + 1
            for view in ("full", "cache"):
                numbers = [found[f"{view}.{k}"] for k in (2, 5, 10, 25)]
                assert numbers == sorted(numbers)  # more are allowed
                assert all(0 <= number <= 100 for number in numbers)
    assert len(published.results) == 6 * 9


def test_the_published_gap_is_that_of_the_paper():
    def of(method, measure):
        return published_results("histalign").one(data="GPT2-small", row=method, measure=measure)

    for measure, gap in (("full.2", 63.47 - 46.43), ("cache.2", 58.62)):
        assert of("HistAlign", measure).value - of("TRIME", measure).value == pytest.approx(gap)
    assert (of("TRIME", "rank").value, of("HistAlign", "rank").printed) == (836, "854")


GENERAL = tuple(PAPERS)


def test_every_file_in_the_general_form_is_read():
    for name in GENERAL:
        published = published_results(name)
        assert published.url.startswith("https://arxiv.org/abs/")
        assert published.results
        assert {result.status for result in published.results} <= set(STATUSES)


def test_what_kanai_et_al_print_is_recalled_but_for_what_others_quote():
    published = published_results("sigsoftmax")
    own = [r for r in published.results if r.table.startswith(("table of", "reported"))]
    assert len(own) == 2 * (6 + 6) + 6 + 6 + 3
    known = {(r.row, r.measure, r.value) for r in own if not r.recalled}
    assert known == {
        ("sigsoftmax", "rank", 4640),
        ("mos (K 15)", "rank", 9980),
        ("sigsoftmax", "gain over softmax in perplexity", 0.40),
        ("mos (K 15)", "gain over softmax in perplexity", 2.88),
        ("plif", "gain over softmax in perplexity", 1.11),
    }
    assert {r.status for r in own if not r.recalled} == {"secondary"}


def test_the_replication_s_table_2_has_eleven_seeds_and_its_ranks():
    published = published_results("sigsoftmax")
    for data, softmax, sigsoftmax in (("PTB", 57.08, 57.05), ("WikiText-2", 64.63, 64.35)):
        table = published.find(table="Table 2", data=data)
        assert len(table) == 5 * 7 - 1
        assert {(r.seeds, r.status) for r in table} == {(11, "verified")}
        wanted = {"table": "Table 2", "data": data, "measure": "test perplexity"}
        assert published.one(row="softmax", **wanted).value == softmax
        assert published.one(row="sigsoftmax", **wanted).value == sigsoftmax
    millions = published.find(table="Table 2", row="softmax", measure="parameters, millions")
    assert [result.value for result in millions] == [24.22, 33.55]


def test_the_rows_of_the_replication_are_heads_that_there_are():
    rows = {result.row for result in published_results("sigsoftmax").find(table="Table 2")}
    assert len(rows) == 6  # a GSS of each text's slope
    assert {row.split(" ")[0] for row in rows} <= set(HEADS)


def test_a_number_keeps_the_digits_that_it_is_printed_with():
    published = published_results("sigsoftmax")
    mos = published.one(table="Table 2", data="PTB", row="mos (K 15)", measure="train perplexity")
    assert mos.printed == "31.84 \N{PLUS-MINUS SIGN} 0.23"
    millions = "parameters, millions"
    mos = published.one(table="Table 2", data="PTB", row="mos (K 15)", measure=millions)
    assert (mos.printed, mos.value) == ("21.50", 21.5)


TOP = 'title = "t"\npaper = "p"\nurl = "u"\n'
GRID = '[[grid]]\ntable = "1"\nmeasures = ["a", "b"]\ndata.d = [["r", 1.50, ""]]\n'
CLAIM = '[[claims]]\nstatus = "verified"\nrows = [["n", "1", "s"]]\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TOP + GRID + 'status = "sure"', "Invalid enum value 'sure'"),
        (TOP + GRID, "missing required field `status`"),
        (TOP + GRID + 'status = "verified"\nsprd = 1', r"unknown field `\$.sprd`"),
        (TOP + GRID + 'status = "secondary"', "no source"),
        (TOP + 2 * (GRID + 'status = "verified"\n'), "stands there twice"),
        (TOP + GRID.replace(', ""', "") + 'status = "verified"', "row r has 1 of 2 numbers"),
        (TOP + 2 * CLAIM, "stands there twice"),
        (TOP + CLAIM + 'souce = "x"', r"unknown field `\$.souce`"),
        (TOP + 'where = "Table 1"\n', r"unknown field `\$.where`"),
        (GRID + 'status = "verified"', "missing required field `title`"),
    ],
)
def test_a_mistake_in_a_file_of_ours_is_an_error(text, message):
    with pytest.raises(ValueError, match=message):
        read_published(text, "paper.toml")


def test_a_grid_is_its_numbers_one_by_one():
    text = TOP + '[[grid]]\ntable = "1"\nstatus = "verified"\nmeasures = ["a", "b"]\n'
    text += 'data.d = [["r", 2.50, ""], ["s", "", [3, 0.10]]]\ndata."e, f" = [["r", 1e-5, 0]]\n'
    found = [
        (r.table, r.data, r.row, r.measure, r.value, r.spread, r.printed)
        for r in read_published(text, "f").results
    ]
    assert found == [
        ("1", "d", "r", "a", 2.5, None, "2.50"),
        ("1", "d", "s", "b", 3.0, 0.1, "3 \N{PLUS-MINUS SIGN} 0.10"),
        ("1", "e, f", "r", "a", 1e-5, None, "1e-5"),
        ("1", "e, f", "r", "b", 0.0, None, "0"),
    ]


def test_a_claim_is_a_row_with_what_all_share():
    (claim,) = read_published(TOP + CLAIM, "f").claims
    assert (claim.name, claim.table, claim.says, claim.status) == ("n", "1", "s", "verified")
