"""Every command that the documents name exists, with its options, parts and files."""

import re
import shlex
import subprocess
import sys
import tomllib
from importlib.util import find_spec

import pytest
import typer
from bench.__main__ import BENCHES, bench

from pages import ROOT, blocks, command_lines, pages
from wideneck.cli import app
from wideneck.commands.options import attention_settings, besides_option, normalizer_option
from wideneck.lab.registry import OPTIONS as OF_PAPERS
from wideneck.lab.registry import Request
from wideneck.report.section import SECTIONS

WIDENECK = typer.main.get_command(app)
OPTIONS = {
    name
    for command in WIDENECK.commands.values()
    for option in command.params
    for name in (*option.opts, *option.secondary_opts)
}
PATH = re.compile(r"(?<![\w/*.])(?:tests|bench|src)/[\w/.]*\w(?:\.py|\.toml)?(?![\w*])")


def commands(page):
    """Each command of a page: the words after a name that a reader may type, with its line."""
    for block in blocks(page):
        for line in command_lines(block):
            plain = re.sub(r"<\(.*?\)", "PIPE", line).split(" > ")[0]
            if re.match(r"(?:wideneck|make|pip|python|accelerate) \S|--[a-z]", plain):
                yield block.line, shlex.split(plain)


def check(words, monkeypatch):
    """Raise where a command names what there is not."""
    match words:
        case ["wideneck", *rest]:
            check_wideneck(rest)
        case ["python", "-m", "bench"]:
            pass
        case ["python", "-m", "bench", name, *rest]:
            check_bench(name, rest, monkeypatch)
        case ["python", "-m", module, *_]:
            assert find_spec(module), module
        case ["accelerate", "launch", "--num_processes", _, "-m", "wideneck", *rest]:
            check_wideneck(rest)
        case ["make", target, *variables]:
            makefile = (ROOT / "Makefile").read_text()
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
            for variable in variables:
                assert f"$({variable.split('=')[0]})" in makefile, variable
        case ["pip", "install", *rest]:
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
            for extra in re.findall(r"\[(\w+)\]", " ".join(rest)):
                assert extra in extras["optional-dependencies"], extra
        case [option, *_] if option.startswith("--"):
            assert option in OPTIONS, option
        case _:
            raise AssertionError(f"nobody knows whether this exists: {' '.join(words)}")


def check_wideneck(words):
    name, *rest = words
    assert name in WIDENECK.commands, name
    if name in ("train", "reproduce") and not rest:  # named, not called
        return
    with WIDENECK.commands[name].make_context(name, rest) as context:
        given = context.params
    attention_settings(given.get("attention") or [])
    besides_option(given.get("besides") or [])
    for one in given.get("normalizer") or []:
        normalizer_option(one)
    assert set(given.get("section") or []) <= set(SECTIONS)
    if name == "reproduce" and given["paper"] != "PAPER":
        shared = {key: given[key] for key in ("scale", "model", "text")}
        own = {name: given[name] for name in OF_PAPERS}
        Request(paper=given["paper"], num_seeds=given["seeds"], own=own, **shared)


def check_bench(name, arguments, monkeypatch):
    assert name in BENCHES, name
    module = bench(name)
    if name == "fuzz":
        from bench.fuzz.session import _arguments

        monkeypatch.setattr(sys, "argv", ["fuzz", "place", *arguments])
        _arguments()
    elif hasattr(module, "_parser"):
        if arguments:  # without any it is named, not called
            module._parser().parse_args(arguments)
    else:

        def begins(*_, **__):  # the arguments were taken
            raise InterruptedError

        monkeypatch.setattr(subprocess, "run", begins)
        with pytest.raises(InterruptedError):
            module.main(arguments)


@pytest.mark.parametrize("page", pages())
def test_every_command_exists(page, monkeypatch):
    for line, words in commands(pages()[page].read_text()):
        try:
            check(words, monkeypatch)
        except (Exception, SystemExit) as error:
            message = f"{page}, line {line}: {' '.join(words)}: {error!r}"
            raise AssertionError(message) from error


@pytest.mark.parametrize("page", pages())
def test_every_file_that_is_named_is_there(page):
    for found in PATH.findall(pages()[page].read_text()):
        assert (ROOT / found).exists(), found


@pytest.mark.parametrize(
    "planted",
    [
        "wideneck audti",
        "wideneck audit gpt2 --sections head",
        "wideneck audit --section heads",
        "wideneck audit --section attention --normalizer entmax16",
        "wideneck audit --section attention --attention windows=1",
        "wideneck evaluate runs/small --with rank",
        "wideneck reproduce sigsoftmax --split paper",
        "python -m bench haeds",
        "python -m bench heads softmaxes",
        "python -m bench train heads",
        "python -m bench audit defaults",
        "python -m bench study a.txt b.txt --state states/ --out out/ --tokens 5",
        "python -m bench fuzz --seeds 7",
        "python -m wideneck.nothing",
        "make audits",
        "make test-clients VERSION=1",
        "pip install 'wideneck[evals]'",
        "--nothing",
    ],
)
def test_a_command_that_does_not_exist_would_be_found(planted, monkeypatch):
    page = f"Text.\n\n```\n{planted}\n```\n\nOr `{planted}`.\n"
    found = list(commands(page))
    assert len(found) == 2
    for _, words in found:
        with pytest.raises((Exception, SystemExit)):
            check(words, monkeypatch)
