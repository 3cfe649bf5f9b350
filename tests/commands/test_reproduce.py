"""What all papers share: the options that each takes, and where it is found."""

import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from wideneck.commands.reproduce import reproduce
from wideneck.errors import WideneckError
from wideneck.files.store import Store
from wideneck.lab.registry import COMMON, OPTIONS, PAPERS, SCALES, Request

GIVEN = {
    **{"scale": "small", "model": "gpt2", "text": "t"},
    **{"words": Path("w"), "split": "paper", "losses": Path("l")},
}


@pytest.mark.parametrize("paper", PAPERS)
def test_a_paper_brings_its_two_modules(paper):
    run = import_module(f"wideneck.lab.{paper}.reproduction").reproduce
    assert list(inspect.signature(run).parameters) == ["request", "progress"]
    table = import_module(f"wideneck.lab.{paper}.table")
    assert list(inspect.signature(table.said).parameters) == ["found"]
    assert list(inspect.signature(table.parts).parameters) == ["found"]


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize("option", GIVEN)
def test_an_option_that_a_paper_does_not_take_is_refused_with_its_owners(paper, option, tmp_path):
    given = {option: GIVEN[option]}
    if option in PAPERS[paper]:
        fields = {"own": given} if option in OPTIONS else given
        request = Request(paper=paper, **fields)
        assert request.own.get(option, getattr(request, option, None)) == GIVEN[option]
        return
    with pytest.raises(WideneckError) as caught:
        reproduce(paper, out=tmp_path / "runs", **given)
    message = str(caught.value)
    owners, _, takes = message.partition("; ")
    assert owners.startswith(f"--{option} belongs to ")
    assert all(owner in owners for owner, options in PAPERS.items() if option in options)
    assert takes.startswith(f"{paper} takes ")
    assert all(f"--{name}" in takes for name in (*PAPERS[paper], *COMMON))
    assert not (tmp_path / "runs").exists()


def test_the_sentence_is_as_a_reader_expects_it():
    with pytest.raises(WideneckError) as caught:
        Request(paper="attention", own={"words": Path("w")})
    assert str(caught.value) == (
        "--words belongs to histalign; attention takes --scale, --model, --text, --seeds, --out, "
        "--html and --json."
    )


@pytest.mark.parametrize("paper", PAPERS)
def test_every_paper_knows_the_same_scales(paper):
    for scale in SCALES:
        assert Request(paper=paper, scale=scale).folder(scale) == Path(f"reproduce-{paper}-{scale}")
    with pytest.raises(WideneckError, match="Did you mean 'small'"):
        Request(paper=paper, scale="smal")
    with pytest.raises(WideneckError, match="at least one seed"):
        Request(paper=paper, num_seeds=0)
    assert Request(paper=paper, out=Path("x")).folder("small") == Path("x")


def test_the_help_names_every_paper_and_loads_no_torch():
    code = (
        "import sys; sys.argv = ['wideneck', 'reproduce', '--help']\n"
        "from wideneck.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'transformers', 'scipy', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr
    for paper in PAPERS:
        assert paper in done.stdout


class Found:
    """What a reproduction gives, without one."""

    def show(self):
        print("the table")

    def to_json_text(self):
        return '{\n "gap": 1.5\n}\n'

    def to_html_text(self):
        return "<p>the page</p>"


@pytest.fixture
def made(monkeypatch):
    module = import_module("wideneck.lab.attention.reproduction")
    monkeypatch.setattr(module, "reproduce", lambda request, progress: Found())


def test_json_to_standard_output_takes_the_place_of_the_table(made, capfdbinary):
    reproduce("attention", json=Path("-"))
    assert capfdbinary.readouterr().out == b'{\n "gap": 1.5\n}\n'


def test_a_page_in_a_file_stands_beside_the_table_and_on_standard_output_in_its_place(
    made, tmp_path, capfd
):
    reproduce("attention", html=tmp_path / "a.html", json=tmp_path / "a.json")
    assert capfd.readouterr().out == "the table\n"
    assert (tmp_path / "a.html").read_text() == "<p>the page</p>"
    assert (tmp_path / "a.json").read_text() == '{\n "gap": 1.5\n}\n'
    reproduce("attention", html=Path("-"))
    assert capfd.readouterr().out == "<p>the page</p>"


@pytest.mark.parametrize("option", ["html", "json"])
def test_the_place_of_a_file_is_looked_at_before_the_work(option, tmp_path):
    place = {option: tmp_path / "none" / "a.file"}
    with pytest.raises(WideneckError, match="no folder"):
        reproduce("attention", out=tmp_path / "runs", **place)
    assert not (tmp_path / "runs").exists()


def test_a_page_and_the_numbers_want_a_file_each(tmp_path):
    same = tmp_path / "a.file"
    with pytest.raises(WideneckError, match="give each a file of its own"):
        reproduce("attention", out=tmp_path / "runs", html=same, json=same)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("option", ["html", "json"])
@pytest.mark.parametrize("name", ["seed0.json", "settings.json", "runs/seed0/result.json"])
def test_no_finished_run_is_written_over(made, option, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for out, folder in ((Path("runs"), "runs"), (None, "reproduce-attention-paper")):
        file = Path(folder, name)
        file.parent.mkdir(parents=True)
        file.write_text("kept")
        for spelled in (file, file.absolute(), Path(folder, "..", file)):
            with pytest.raises(WideneckError, match="give a name in another folder"):
                reproduce("attention", out=out, **{option: spelled})
        assert file.read_text() == "kept"
    reproduce("attention", out=Path("runs"), html=Path("runs", "page.html"))
    reproduce("attention", out=Path("runs"), **{option: Path("seed0.json")})


@pytest.mark.parametrize("option", ["html", "json"])
def test_nor_is_one_of_a_task_or_what_the_task_reads(option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = Path("reproduce-histalign-summaries-small", "trime-seed0.json")
    file.parent.mkdir()
    with pytest.raises(WideneckError, match="give a name in another folder"):
        reproduce("histalign", task="summaries", **{option: file})
    Path("pairs.jsonl").write_text("kept")
    with pytest.raises(WideneckError, match="is read by this command"):
        reproduce(
            "histalign", task="summaries", data="pairs.jsonl", **{option: Path("pairs.jsonl")}
        )
    assert Path("pairs.jsonl").read_text() == "kept"


def test_the_folders_of_two_papers_are_not_one(tmp_path):
    with Store.opened(tmp_path, {"paper": "attention"}):
        pass
    other = Store.opened(tmp_path, {"paper": "histalign"})
    with pytest.raises(WideneckError, match="paper is 'attention' there, 'histalign' here"), other:
        pass
