"""The command line as its users meet it: a process with arguments, output and an exit code."""

import json
import os
import signal
import subprocess
import sys
from functools import partial

import pytest
import torch
from safetensors.torch import save_file

from tiny import tiny_model
from tiny_text import character_tokenizer, write_text
from wideneck.config import HEADS

COMMAND = [sys.executable, "-c", "from wideneck.cli import main; main()"]


def wideneck(*arguments, **options):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=120, **options
    )


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    path = tmp_path_factory.mktemp("head") / "head.safetensors"
    torch.manual_seed(0)
    save_file({"lm_head.weight": torch.randn(200, 8)}, path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    tiny_model("gpt2").save_pretrained(path)
    character_tokenizer().save_pretrained(path)
    return path


def test_help_imports_neither_torch_nor_transformers():
    code = (
        "import sys; sys.argv = ['wideneck', '--help']\n"
        "from wideneck.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'transformers', 'scipy', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


def test_the_heads_are_listed_without_torch():
    code = (
        "import sys; sys.argv = ['wideneck', 'heads']\n"
        "from wideneck.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'transformers', 'scipy', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


def test_the_heads_are_a_table_a_file_and_json(tmp_path):
    done = wideneck("heads", "--json", tmp_path / "heads.json")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert {line.split(" ")[0] for line in done.stdout.splitlines()} >= set(HEADS)
    printed = wideneck("heads", "--json", "-").stdout
    assert printed == (tmp_path / "heads.json").read_text()
    assert [head["name"] for head in json.loads(printed)["heads"]] == list(HEADS)


def test_importing_wideneck_imports_nothing_heavy():
    code = (
        "import sys, wideneck; assert 'torch' not in sys.modules; assert callable(wideneck.audit)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_an_audit_prints_a_table_and_writes_both_files(folder, tmp_path):
    text = write_text(tmp_path / "text.txt")
    html, numbers = tmp_path / "r.html", tmp_path / "r.json"
    done = wideneck(
        "audit", folder, "--text", text, "--tokens", 512, "--html", html, "--json", numbers
    )
    assert done.returncode == 0, done.stderr
    assert "96" in done.stdout
    assert "\x1b" not in done.stdout
    assert json.loads(numbers.read_text())["head"]["vocab_size"] == 96
    assert html.read_text().startswith("<!doctype html>")
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_json_to_standard_output_is_nothing_but_json(head):
    done = wideneck("audit", head, "--section", "head", "--json", "-")
    assert json.loads(done.stdout)["head"]["vocab_size"] == 200


def test_json_is_utf8_where_the_terminal_is_not(head):
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = wideneck("audit", head, "--section", "head", "--json", "-", env=environment)
    assert json.loads(done.stdout)["head"]["vocab_size"] == 200


def test_no_argmaxable_leaves_the_search_out(head):
    done = wideneck("audit", head, "--section", "head", "--no-argmaxable", "--json", "-")
    assert json.loads(done.stdout)["head"]["argmaxable"] is None


def test_a_series_follows_steps_and_flags_equal_heads(tmp_path):
    torch.manual_seed(0)
    weights = [torch.randn(200, 8) for _ in range(3)]
    for step, weight in ((1000, weights[0]), (200, weights[1]), (3000, weights[2])):
        save_file({"lm_head.weight": weight}, tmp_path / f"step{step}.safetensors")
    save_file({"lm_head.weight": weights[2]}, tmp_path / "step4000.safetensors")
    done = wideneck(
        "audit", "--series", tmp_path, "--json", tmp_path / "s.json", "--html", tmp_path / "s.html"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "s.json").read_text())
    assert [point["step"] for point in found["points"]] == [200, 1000, 3000, 4000]
    (group,) = found["identical"]
    assert [name.rsplit("step")[-1] for name in group] == ["3000.safetensors", "4000.safetensors"]
    assert "3000" in "".join(done.stdout.split())  # a long path is folded


BAD = {
    "missing file": (["audit", "nowhere.safetensors"], "nowhere.safetensors"),
    "missing folder for the report": (["audit", "--html", "nowhere/r.html"], "no folder"),
    "a folder as the report": (["audit", "--json", "."], "is a folder"),
    "unknown section": (["audit", "{head}", "--section", "body"], "'body' was asked for"),
    "two models": (["audit", "a", "b"], "One MODEL was expected, 2 came"),
    "one file for both": (["audit", "--html", "x", "--json", "x"], "a file of its own"),
    "a series with a text": (["audit", "--series", "a", "b", "--text", "t"], "leave out --text"),
    "a series of one": (["audit", "--series", "{head}"], "at least two checkpoints"),
    "no hidden size": (["heads", "--hidden-size", "0"], "needs hidden_size >= 1, got 0"),
    "no vocabulary": (["heads", "--vocab-size", "-3"], "needs vocab_size >= 1, got -3"),
    "missing folder for the heads": (["heads", "--json", "nowhere/h.json"], "no folder"),
    "empty text": (["audit", "{folder}", "--text", "{empty}"], "is empty"),
    "short text": (["audit", "{folder}", "--text", "{short}"], "shorter than one window"),
    "no config": (["audit", "{head}"], "has no config.json"),
    "unknown normalizer": (
        ["audit", "{folder}", "--section", "attention", "--normalizer", "sparsmax"],
        "Did you mean 'sparsemax'?",
    ),
    "a normalizer's unknown field": (
        ["audit", "{folder}", "--section", "attention", "--normalizer", "topk:kk=3"],
        "Did you mean 'k'?",
    ),
    "alpha below 1": (
        ["audit", "{folder}", "--section", "attention", "--normalizer", "entmax:alpha=0.5"],
        "number >= 1 for alpha, got 0.5",
    ),
    "a normalizer without its section": (
        ["audit", "{folder}", "--normalizer", "sink"],
        "add 'attention'",
    ),
    "unknown setting": (
        ["audit", "{folder}", "--section", "attention", "--attention", "contxt=9"],
        "Did you mean 'context'?",
    ),
    "a setting that is no number": (
        ["audit", "{folder}", "--section", "attention", "--attention", "sizes=1,x"],
        "sizes is a whole number or several",
    ),
    "context over the limit": (
        ["audit", "{folder}", "--section", "attention", "--attention", "context=128"],
        "positions for 64",
    ),
    "text shorter than the context": (
        ["audit", "{folder}", "--section", "attention", "--text", "{short}"],
        "shorter than one window",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_one_line_and_exit_code_1(case, head, folder, tmp_path):
    arguments, message = BAD[case]
    (tmp_path / "empty").write_text("")
    (tmp_path / "short").write_text("a few words")
    names = {
        "head": head,
        "folder": folder,
        "empty": tmp_path / "empty",
        "short": tmp_path / "short",
    }
    done = wideneck(*(str(a).format(**names) for a in arguments), cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = [line for line in done.stderr.split("\n") if line.startswith("wideneck: ")]
    assert message in line
    assert "Traceback" not in done.stderr


def test_wrong_usage_is_exit_code_2():
    assert wideneck("audit", "--sectoin", "head").returncode == 2
    assert wideneck("heads", "--hidden-size", "wide").returncode == 2


def test_an_interruption_is_one_line_and_leaves_an_earlier_report_whole(tmp_path):
    torch.manual_seed(0)
    save_file({"lm_head.weight": torch.randn(120_000, 256)}, tmp_path / "head.safetensors")
    (tmp_path / "r.html").write_text("earlier")
    arguments = ["audit", "head.safetensors", "--section", "head", "--html", "r.html"]
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        # A shell's background job ignores SIGINT, and so would what it starts.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    # Not before the audit is under way, however long its imports take.
    shown = b""
    while b"%" not in shown and (read := process.stderr.read1()):
        shown += read
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    stderr = (shown + rest).decode()
    assert process.returncode == 1
    assert "wideneck: interrupted" in stderr
    assert "Traceback" not in stderr
    assert (tmp_path / "r.html").read_text() == "earlier"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["head.safetensors", "r.html"]


def test_a_full_disk_is_one_line_and_leaves_an_earlier_report_whole(tmp_path, monkeypatch):
    from wideneck.errors import WideneckError
    from wideneck.files.writing import write_text as write

    (tmp_path / "r.json").write_text("earlier")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WideneckError, match="could not be written: No space left on device"):
        write(tmp_path / "r.json", "new")
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]
    assert (tmp_path / "r.json").read_text() == "earlier"
