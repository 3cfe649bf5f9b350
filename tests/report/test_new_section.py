"""A section that is not ours: its audit, its declaration and one row, through the whole path."""

import json
import sys
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import save_file

import wideneck as wn
from report.html_tree import read
from wideneck.audits.measure import measure
from wideneck.cli import main
from wideneck.errors import WideneckError
from wideneck.report.numbers import number
from wideneck.report.parts import BOTH, Column, Heading, Number, Numbers, Table, note
from wideneck.report.report import Report
from wideneck.report.section import SECTIONS, Section, section, sections


@dataclass(frozen=True, kw_only=True)
class Toy:
    """What the toy section finds."""

    largest: float = measure("largest entry of the toy", caution="one entry says little")


def audit(subject):
    subject.notes.append("a note of the toy")
    return Toy(largest=subject.head.weight.max().item())


def blocks(toy, reference):
    yield Heading("Toy", "toy", "Toys")
    yield note(f"Defined: {reference['toy.largest'].definition}")
    yield Numbers("toy", [Number("largest", number(toy.largest), ["0 of nothing"], "toy.largest")])
    yield Table("Toys", [Column("entry", "toy.largest")], [("first", "", ["7 <b>"])], face=BOTH)


ROW = Section(
    audit=audit,
    reads=False,
    summary=lambda toy: [f"The toy has {number(toy.largest)}."],
    blocks=blocks,
    headings={"": "Toys"},
    symbols="Of toys: t is a toy.",
)


@dataclass(frozen=True, kw_only=True)
class WithToy(Report):
    """The row."""

    toy: Toy | None = section("a toy of the tests", ROW)


@pytest.fixture
def saved(tmp_path, monkeypatch):
    monkeypatch.setattr("wideneck.entry.audit.Report", WithToy)
    weight = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    weight[3, 2] = 12.5
    save_file({"lm_head.weight": weight}, tmp_path / "head.safetensors")
    return tmp_path / "head.safetensors"


def test_it_is_in_json_with_its_definition_and_the_others_are_as_before(saved):
    found = json.loads(wn.audit(saved, sections=["toy", "head"], argmaxable=False).to_json_text())
    assert found["toy"] == {"largest": 12.5}
    assert found["definitions"]["toy.largest"]["caution"] == "one entry says little"
    assert set(found["definitions"]["toy"]) == {"definition"}
    assert "a note of the toy" in found["provenance"]["notes"]
    assert found["output"] is None
    assert found["head"]["vocab_size"] == 20


def test_the_command_shows_it_in_the_terminal_and_on_the_page(saved, monkeypatch, capsys, tmp_path):
    page = tmp_path / "page.html"
    arguments = ["audit", str(saved), "--section", "toy", "--html", str(page)]
    monkeypatch.setattr(sys, "argv", ["wideneck", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    printed = " ".join(capsys.readouterr().out.split())
    tree = read(page.read_text())
    on_page = " ".join(tree.text.replace("\u00a0", " ").split())
    for text in (printed, on_page):
        for expected in ("The toy has 12.5.", "0 of nothing", "7 <b>", "a note of the toy"):
            assert expected in text
    for expected in ("Defined: Largest entry of the toy.", "Of toys: t is a toy.", "Toys"):
        assert expected in on_page
    assert {"#toy", "#def-toy-largest"} <= set(tree.links)
    assert {"toy", "def-toy-largest"} <= set(tree.ids)


def test_what_no_row_names_is_refused_with_all_that_there_are(saved):
    with pytest.raises(
        WideneckError, match="head, output, cost, attention, memory, toy; 'toys' was"
    ):
        wn.audit(saved, sections="toys")


def test_the_sections_that_help_names_are_those_of_a_report():
    assert list(sections(Report)) == list(SECTIONS)
