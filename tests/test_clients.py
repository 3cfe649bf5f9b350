"""The machinery of `make test-clients`: layers, what tests show, the table in docs/clients.md."""

import shutil
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from clients import rows as clients_rows
from clients.__main__ import run
from clients.rows import ROOT, Row, layer, rows
from clients.table import BEGIN, END, FAILED, Seen, markdown, written

TESTS = """
import pytest

def test_right(shows):
    shows("trains", "right")

def test_through(shows):
    shows("aligns", "through", "wn.trl.fused(trainer)", client="verl", version="0.9.1, its way")

def test_said_it_was_right_and_failed(shows):
    shows("merges", "right")
    assert False

def test_failed_at_once(shows):
    raise RuntimeError

def test_call_left_out(shows):
    shows("merges", "through")

@pytest.mark.skip("no GPU")
def test_skipped(shows):
    shows("fused kernel", "right")
"""


def test_what_tests_show_is_what_the_table_says(tmp_path, capsys):
    shutil.copy(ROOT / "tests" / "clients" / "conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text(TESTS)
    own = version("pytest")
    passed, lines = run(Row((str(tmp_path),), client="pytest"))
    assert not passed
    assert lines == [
        Seen("pytest", own, "trains", "right"),
        Seen("verl", "0.9.1, its way", "aligns", "right through `wn.trl.fused(trainer)`"),
        Seen("pytest", own, "merges", FAILED),
        Seen("pytest", own, "`test_failed_at_once`", FAILED),
        Seen("pytest", own, "`test_call_left_out`", FAILED),
        Seen("pytest", own, "`test_skipped`", "not run: no GPU"),
    ]
    assert "3 failed, 2 passed, 1 skipped" in capsys.readouterr().out
    missing, lines = run(Row((str(tmp_path / "no_such.py"),), client="pytest", what="all"))
    assert not missing
    assert lines == [Seen("pytest", own, "all", FAILED)]


def test_versions_that_show_the_same_stand_in_one_line():
    lines = [Seen("trl", v, "SFT", "right") for v in ("1.7.0", "1.14.0", "1.14.0")]
    lines.insert(1, Seen("trl", "1.7.0", "DPO", "refused"))
    assert markdown(lines).splitlines()[2:] == [
        "| trl | 1.7.0, 1.14.0 | SFT | right |",
        "| trl | 1.7.0 | DPO | refused |",
    ]
    assert written(f"a\n{BEGIN}\nold\n{END}\nb", "new") == f"a\n{BEGIN}\n\nnew\n\n{END}\nb"
    with pytest.raises(ValueError, match="needs the lines"):
        written("a page without them", "new")


def test_an_interrupted_layer_starts_over(tmp_path, monkeypatch):
    monkeypatch.setattr(clients_rows, "LAYERS", tmp_path)
    made = []

    def pip(command, check):
        assert "--no-deps" in command
        assert command[-1] == "trl==1.7.0"
        folder = Path(command[command.index("--target") + 1])
        folder.mkdir(exist_ok=False)  # what was left of the last try is gone
        made.append(folder)
        if len(made) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", pip)
    with pytest.raises(KeyboardInterrupt):
        layer("trl==1.7.0")
    assert layer("trl==1.7.0") == layer("trl==1.7.0") == tmp_path / "trl-1.7.0"
    assert len(made) == 2


def test_no_test_of_a_client_is_left_out():
    run = {name for row in rows() for name in row.tests}
    for path in (ROOT / "tests" / "clients").glob("test_*.py"):
        assert str(path.relative_to(ROOT)) in run


def test_a_client_that_is_not_listed_is_named():
    with pytest.raises(SystemExit, match="no client lightnign"):
        rows(["lightnign"])


def test_the_extra_has_the_newest_version_of_each_client_and_the_page_has_its_row():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extra = dict(p.split("==") for p in pyproject["project"]["optional-dependencies"]["clients"])
    page = (ROOT / "docs" / "clients.md").read_text().partition(BEGIN)[2]
    table = [
        [c.strip() for c in line.split("|")[1:3]]
        for line in page.splitlines()
        if line.startswith("| ")
    ]
    newest: dict[str, str] = {}
    for row in rows():
        assert any(row.name == c and row.version in tried for c, tried in table), row
        newest[row.name] = max(
            newest.get(row.name, "0"), row.version, key=lambda v: [int(n) for n in v.split(".")]
        )
    for client, pinned in extra.items():
        assert newest.get(client) == pinned, f"{client}: the extra names {pinned}"
