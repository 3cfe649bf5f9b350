"""What a judge of the user's says, on the page of a task."""

import pytest

from wideneck.lab.found import _blocks
from wideneck.lab.spread import Spread
from wideneck.lab.tables import Theirs
from wideneck.lab.tasks.measuring import JUDGE, MEASURES
from wideneck.lab.tasks.pages import words
from wideneck.lab.tasks.table import Shown, _cells

TOLD = {"pmi": "Nats {}.", "pmi mismatched": "Of others.", "pmi cut": "Cut."}


def shown(told):
    """The tables of a judge: one row of ours, and one below it."""
    figures = {f"{JUDGE}{name}": Spread(mean=n + 0.25, std=0.125) for n, name in enumerate(told)}
    rows = [Shown("plain", figures), Theirs("  text", _cells({f"{JUDGE}pmi mismatched": 7.5}))]
    blocks = words("summaries", told)["sections"][0]["blocks"][-2:]
    return [table for one in blocks for table in _blocks((), {}, {"beside": rows}, **one)]


def test_what_a_judge_says_stands_apart_from_what_it_says_with_other_sources():
    own, others = shown(TOLD)
    assert [column.text for column in own.columns] == ["pmi", "pmi cut"]
    assert [(row[0], [*row[2]]) for row in own.rows] == [
        ("plain", ["0.250 ± 0.125", "2.250 ± 0.125"])
    ]
    assert [column.text for column in others.columns] == ["pmi"]
    assert [(row[0], [*row[2]]) for row in others.rows] == [
        ("plain", ["1.250 ± 0.125"]),
        ("  text", ["7.50"]),
    ]


def test_its_measures_are_told_below_and_may_hold_braces():
    told = words("summaries", TOLD)["reading"][-1]
    assert told.format_map({}) == "Pmi: Nats {}. Pmi mismatched: Of others. Pmi cut: Cut."


@pytest.mark.parametrize("task", MEASURES)
def test_without_a_judge_there_is_no_such_table(task):
    captions = [one["caption"] for one in words(task, {})["sections"][0]["blocks"]]
    assert len(captions) == 2
    assert not any("judge" in caption for caption in captions)
