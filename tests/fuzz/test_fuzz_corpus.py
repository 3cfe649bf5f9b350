"""Strangers' files: hundreds of changes of every format, under real command lines.

What a failed case is stands in `bench.fuzz.judge`, what is promised in docs/reliability.md.
"""

import json
import os
import subprocess
import sys

import pytest
from bench.fuzz.draw import FORMATS, drawn, tables
from bench.fuzz.main import run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="its limits are those of Linux")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Every case of the corpus, run once."""
    place = tmp_path_factory.mktemp("fuzz")
    made = run(
        ["--corpus", "--json", str(place / "outcomes.json")],
        place,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    file = place / "outcomes.json"
    assert file.exists(), made.stdout.decode(errors="replace")[-3000:]
    return json.loads(file.read_text())


@pytest.mark.parametrize("name", FORMATS)
def test_every_change_ends_in_a_report_or_in_one_line(outcomes, name):
    mine = [one for one in outcomes if one["format"] == name]
    failed = [f"{'; '.join(one['faults'])}\n    {one['repeat']}" for one in mine if one["faults"]]
    assert mine
    assert not failed, "\n" + "\n".join(failed)


def test_the_corpus_is_large_and_both_ends_occur(outcomes):
    assert len(outcomes) >= 400
    for came in ("refused", "measured"):
        assert sum(one["came"] == came for one in outcomes) > 50


def test_a_case_is_the_same_whenever_it_is_drawn():
    for number in (0, 1, 41):
        one, again = drawn(7, number), drawn(7, number)
        assert (one.said, one.stream, one.command) == (again.said, again.stream, again.command)
    assert {drawn(7, n).said for n in range(20)} != {drawn(8, n).said for n in range(20)}


def test_a_name_of_the_tables_is_one_case():
    names = [case.name for case in tables()]
    assert len(names) == len({*names})
    assert all(name.isprintable() and " " not in name for name in names)
    assert os.sep in names[0]
