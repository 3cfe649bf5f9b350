"""Hostile names through terminal, HTML and JSON: they are text, and nothing but text.

A page is compared with that of harmless names, tag for tag: a name that became an element, or an
attribute, would show as a difference, in a parser or in a browser.
"""

import dataclasses
import functools
import io
import json
import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import pytest
import torch
from rich.cells import cell_len
from rich.console import Console
from safetensors.torch import save_file

import wideneck as wn
from report import active_content
from report.examples import head_audit, report, with_unreachable
from report.hostile_names import LONG, NAMES, for_files
from wideneck.audits.argmaxable.result import TokenRef
from wideneck.audits.rows import Undertrained
from wideneck.files.printable import LONGEST, MARKS, printable, shortened
from wideneck.report.console import PlainConsole

OUR_SPACES = "\n\u00a0"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@functools.cache
def plain_head():
    return with_unreachable(head_audit())


def named(names):
    """A report in which every string of a stranger's is hostile: the first one, of tokens all."""
    head, first = plain_head(), names[0]
    tokens = [TokenRef(token=i, string=name) for i, name in enumerate(names)]
    ties = [dataclasses.replace(head.argmaxable.ties[0], strings=[first, names[-1]])]
    found = report(
        dataclasses.replace(
            head,
            tensor=first,
            tying=f"{first} and {first} hold the same bytes",
            rows=dataclasses.replace(
                head.rows,
                undertrained=[Undertrained(**vars(token)) for token in tokens],
                beyond_tokenizer=tokens,
            ),
            argmaxable=dataclasses.replace(
                head.argmaxable,
                ties=ties,
                undecided=tokens,
                unargmaxable=[dataclasses.replace(head.argmaxable.unargmaxable[0], string=first)],
            ),
        ),
        None,
    )
    source = dataclasses.replace(
        found.provenance,
        model=first,
        text=first,
        text_sha256="",
        head_dtype=first[:20],
        command=f"wideneck audit {first}",
        notes=[first, f"{first} is left out: {first}"],
    )
    return dataclasses.replace(found, provenance=source)


def shown(found, encoding="utf-8", colours=False, monkeypatch=None):
    """What `show` prints."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        if colours:
            patch.setenv("FORCE_COLOR", "1")
            patch.setenv("TERM", "xterm-256color")
        found.show()
    stream.flush()
    return raw.getvalue().decode(encoding)


class Structure(HTMLParser):
    """The elements of a page with the names of their attributes, and its text."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.elements, self.text, self.classes = [], "", set()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, tuple(name for name, _ in attrs)))

    def handle_data(self, data):
        self.text += data

    def handle_comment(self, data):
        self.elements.append(("comment", data))

    def handle_decl(self, decl):
        self.elements.append(("declaration", decl))

    def unknown_decl(self, data):
        self.elements.append(("declaration", data))

    def handle_pi(self, data):
        self.elements.append(("instruction", data))


def structure(page):
    found = Structure()
    found.feed(page)
    found.close()
    return found


@functools.cache
def plain_elements(count):
    return structure(named(["harmless"] * count).to_html_text()).elements


def unprintable(text, allowed="\n"):
    return {c for c in text if not c.isprintable() and c not in allowed}


@pytest.mark.parametrize("key", NAMES)
def test_a_hostile_name_is_text_in_all_three_faces(key, monkeypatch):
    name = NAMES[key]
    found = named([name])
    for encoding in ("utf-8", "ascii"):
        text = shown(found, encoding, monkeypatch=monkeypatch)
        assert unprintable(text) == set()
        assert max(map(cell_len, text.split("\n"))) <= 80
    page = found.to_html_text()
    page.encode()  # no halves of surrogates
    assert unprintable(page, OUR_SPACES) == set()
    tree = structure(page)
    assert tree.elements == plain_elements(1)
    if name:
        start = printable(name)[:8].split(" ")[0]
        assert start in tree.text
        assert start in shown(found, monkeypatch=monkeypatch)
    numbers = found.to_json_text()
    assert unprintable(numbers) == set()
    token = json.loads(numbers.encode())["head"]["rows"]["undertrained"][0]["string"]
    assert token == "".join(printable(c) if "\ud800" <= c <= "\udfff" else c for c in name)


def test_a_long_name_is_shortened_where_it_is_shown_and_whole_in_json(monkeypatch):
    found = named([NAMES["long"]])
    command = dataclasses.replace(found.provenance, command="wideneck audit")
    found = dataclasses.replace(found, provenance=command)
    assert len(found.to_html_text()) < 300_000
    assert len(shown(found, monkeypatch=monkeypatch)) < 20_000
    assert len(found.to_json_text()) > LONG
    short = shortened(NAMES["long"])
    assert len(short) <= LONGEST
    assert f"{LONG:,} characters" in short
    assert short in structure(found.to_html_text()).text


def test_colours_are_the_only_escapes_of_a_terminal(monkeypatch):
    found = named(list(NAMES.values()))
    text = shown(found, colours=True, monkeypatch=monkeypatch)
    plain = shown(named(["harmless"]), colours=True, monkeypatch=monkeypatch)
    assert "\x1b[1m" in plain

    def codes(text):
        return {part.split("m")[0] for part in text.split("\x1b")[1:]}

    assert codes(text) == codes(plain)


def test_whatever_is_printed_on_our_console_is_text():
    raw = io.StringIO()
    console = PlainConsole(file=raw, width=2000, force_terminal=False)
    from rich.table import Table
    from rich.text import Text

    table = Table(NAMES["colour"], NAMES["markup"], title=NAMES["c1"])
    table.add_row(NAMES["overrides"], Text(NAMES["return"]))
    console.print(table)
    console.print(NAMES["markup"], NAMES["colour"])
    text = raw.getvalue()
    assert unprintable(text) == set()
    assert NAMES["markup"] in text
    assert r"\x1b[31;1mred\x1b[0m" in text
    assert NAMES["colour"] in _of_an_ordinary_console()  # what it is for


def _of_an_ordinary_console():
    raw = io.StringIO()
    Console(file=raw, force_terminal=False).print(NAMES["colour"], markup=False)
    return raw.getvalue()


def test_marks_of_languages_stay_and_towers_do_not():
    for word in ("Tiê\u0301ng Viê\u0323t", "ภาษาไทยที่นี่", "བརྒྱུད", "שָׁלוֹם", "é" * 50):
        assert printable(word) == word
    low = printable(NAMES["tower"])
    assert "\u0301\u0316\u0489" in low
    assert r"\u0301" in low
    assert low.count("\u0301") + low.count("\u0316") + low.count("\u0489") == MARKS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Checkpoints, one of each hostile name, and a damaged one; where the system takes the name."""
    path = tmp_path_factory.mktemp("series")
    made = 0
    for i, (key, name) in enumerate(for_files().items()):
        weight = torch.randn(20, 4, generator=torch.Generator().manual_seed(i))
        save_file({"lm_head.weight": weight}, path / "new")
        bad = key in ("colour", "newlines")
        try:
            os.rename(path / "new", os.fsencode(path) + b"/" + name + b".safetensors")
        except OSError:  # of a system whose names are UTF-8
            continue
        if bad:
            with open(os.fsencode(path) + b"/" + name + b".safetensors", "wb") as file:
                file.write(b"\xff" * 100)
        made += 1
    assert made >= 35
    return path


@pytest.fixture(scope="module")
def of_files(folder):
    return wn.audit_series([folder])


def test_hostile_file_names_are_text_in_all_three_faces(of_files, monkeypatch):
    assert len(of_files.points) >= 33
    # Two are damaged, and the library of safetensors opens no file whose name is no UTF-8.
    assert sum("is left out" in note for note in of_files.provenance.notes) == 3
    for encoding in ("utf-8", "ascii"):
        assert unprintable(shown(of_files, encoding, monkeypatch=monkeypatch)) == set()
    page, numbers = of_files.to_html_text(), of_files.to_json_text()
    assert unprintable(page, OUR_SPACES) == set()
    harmless = [dataclasses.replace(p, name=f"step {i}") for i, p in enumerate(of_files.points)]
    source = dataclasses.replace(
        of_files.provenance, notes=["harmless"] * len(of_files.provenance.notes)
    )
    plain = dataclasses.replace(of_files, points=harmless, provenance=source)
    assert structure(page).elements == structure(plain.to_html_text()).elements
    assert unprintable(numbers) == set()
    json.loads(numbers.encode())


def command_line(*arguments, **options):
    command = [sys.executable, "-c", "from wideneck.cli import main; main()"]
    return subprocess.run([*command, *arguments], capture_output=True, timeout=120, **options)


def test_a_hostile_file_name_in_a_message_is_one_printable_line(tmp_path):
    names = for_files()
    path = os.fsencode(tmp_path) + b"/" + b"".join(map(names.get, ("colour", "newlines", "c1")))
    path += b".safetensors"
    with open(path, "wb") as file:
        file.write(b"\xff" * 100)
    done = command_line(b"audit", path, b"--section", b"head")
    assert done.returncode == 1
    assert done.stdout == b""
    line = done.stderr.decode().removesuffix("\n")
    assert line.startswith("wideneck: ")
    assert line.isprintable()


def test_a_hostile_argument_in_a_complaint_about_usage_is_printable():
    for arguments in (["audit", "--\x1b[31m\x9bx"], ["\x1b[31m\x9bx"], ["--\x1b[31m\x9bx"]):
        done = command_line(*arguments)
        assert done.returncode == 2
        assert unprintable(done.stderr.decode()) == set()
        assert r"\x1b[31m\x9bx" in done.stderr.decode()


def in_a_browser(path, tmp_path):
    """The page's elements as Chromium has them once its scripts had time to run, and its title."""
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=2000",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        timeout=120,
    )
    page = done.stdout.decode()
    assert page.startswith("<!DOCTYPE html>"), done.stderr.decode()[-500:]
    return structure(page), page.split("<title>")[1].split("</title>")[0]


def without_policy(page):
    assert page.count("Content-Security-Policy") == 1
    return page.replace("Content-Security-Policy", "x-none")


def test_no_name_becomes_an_element_that_acts_whatever_the_policy(tmp_path):
    """Without the page's own policy, which would forbid scripts whatever the escaping lets by."""
    names = [name for key, name in NAMES.items() if key != "long"]
    pages = {
        kind: without_policy(named(strings).to_html_text())
        for kind, strings in (("hostile", names), ("plain", ["harmless"] * len(names)))
    }
    assert active_content.found(pages["plain"]) == active_content.found(pages["hostile"]) == []
    trees = {kind: structure(page) for kind, page in pages.items()}
    assert trees["hostile"].elements == trees["plain"].elements
    if CHROMIUM is None:
        return
    for kind, page in pages.items():
        (tmp_path / f"{kind}.html").write_text(page, encoding="utf-8")
    hostile, title = in_a_browser(tmp_path / "hostile.html", tmp_path)
    plain, _ = in_a_browser(tmp_path / "plain.html", tmp_path)
    assert hostile.elements == plain.elements
    assert "script" not in {tag for tag, _ in hostile.elements}
    assert title.startswith("&lt;script&gt;document.title='ran'&lt;/script&gt;")


ACTS = {
    "script": ["script-src"],
    "script that closes": ["script-src"],
    "image": ["img-src", "script-src"],
    "link": ["script-src"],
    "frame": ["frame-src"],
    "object": ["object-src", "object-src"],
    "svg": ["script-src"],
    "base": ["base-uri"],
    "form": ["form-action"],
}
"""Names that act where they are not escaped, by the directives that would allow them."""


@pytest.mark.parametrize("key", ACTS)
def test_names_that_are_not_escaped_would_act_and_the_policy_of_the_page_stops_them(key, tmp_path):
    """That the test above can fail; and that the policy of a page alone is enough for these."""
    page = named(["harmless"]).to_html_text().replace("<main>", f"<main>{NAMES[key]}", 1)
    assert active_content.allowed(without_policy(page)) == ACTS[key]
    assert active_content.allowed(page) == []
    if CHROMIUM is None or key != "script":
        return
    for one, title in ((without_policy(page), "ran"), (page, "harmless - wideneck")):
        (tmp_path / "page.html").write_text(one, encoding="utf-8")
        assert in_a_browser(tmp_path / "page.html", tmp_path)[1] == title
