"""What counts as a failed case: each fault planted, and what is none."""

import os
import stat
from dataclasses import replace

import pytest
from bench.fuzz.case import MEASURED, REFUSED, Case, Command
from bench.fuzz.children import Ended, Job
from bench.fuzz.judge import GREW, beside_progress, judged, tree

BAR = "\rreading the head:  50% |█████     | 00:01"
WIPED = "\r" + " " * 50 + "\r"
REFUSAL = "wideneck: model.safetensors is cut short: download it again.\n"
CASE = Case("x", "config", "llama", Command(("audit", "model"), ("out.json", "out.html")), ())


@pytest.fixture
def came(tmp_path):
    """(case, exit code, stderr, ...) -> the faults that are found."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    before = tree(folder)

    def judge(code, errors="", printed="", case=CASE, killed=False, peak=0):
        out, err = tmp_path / "out", tmp_path / "err"
        out.write_bytes(printed.encode())
        err.write_bytes(errors.encode("utf-8", "surrogateescape"))
        job = Job("1", lambda: None, folder, out, err)
        return judged(case, Ended(job, code, killed, 1.0, 1.0, peak), before, 0).faults

    judge.folder = folder
    return judge


def report(folder, json="{}", html="<p>1</p>"):
    (folder / "out.json").write_text(json)
    (folder / "out.html").write_text(html)


@pytest.mark.parametrize(
    "errors",
    [
        REFUSAL,
        BAR + WIPED + REFUSAL,
        "\n" + BAR + "\x1b[A" + "\n\r" + " " * 50 + "\x1b[A" + "\r     \r" + REFUSAL,  # two at once
        BAR + BAR + "  " + WIPED + BAR + WIPED + REFUSAL,
        "\rloss 3.215, 4,021 tokens/s  12% |█▏        | 00:02, 00:14 left" + WIPED + REFUSAL,
        "\rtokens:   0% |          | 00:00, ? left" + WIPED + REFUSAL,
    ],
)
def test_one_line_beside_progress_is_right(came, errors):
    assert came(1, errors) == ()


@pytest.mark.parametrize(
    "errors",
    [
        "",
        REFUSAL + REFUSAL,
        "UserWarning: something\n" + REFUSAL,
        REFUSAL + "\n",
        REFUSAL.strip(),  # no end of line
        "error: something\n",
        "wideneck: \n",
        "wideneck: a \x1b[31m name\n",
        "wideneck: a \x07 bell\n",
        "wideneck: turned \u202e around\n",
        "wideneck: no \udcff UTF-8\n",
        "wideneck: half\rwideneck: another\n",
        BAR + REFUSAL,  # the line stands behind what is left of the bar
        BAR + WIPED + REFUSAL + BAR,
        "Traceback (most recent call last):\n  File\nKeyError: 'x'\n",
        BAR + WIPED + "thread '<unnamed>' panicked at src/lib.rs:1:1:\n" + REFUSAL,
        "wideneck: " + "x" * 5000 + "\n",
    ],
)
def test_anything_else_is_a_fault(came, errors):
    assert came(1, errors)


def test_a_success_says_nothing_and_writes_its_reports(came):
    assert came(0, BAR + WIPED)  # no report yet
    report(came.folder)
    assert came(0, BAR + WIPED) == ()
    assert came(0, "a warning\n")
    assert came(0, BAR)  # left on the screen


@pytest.mark.parametrize("code", [2, 3, 130, -9, -11, -6])
def test_other_ends_are_faults(came, code):
    assert came(code, REFUSAL)


def test_a_hang_is_a_fault(came):
    assert came(-9, killed=True) == ("no end within 30 s",)


def test_memory_beyond_a_small_folder_is_a_fault(came):
    assert came(1, REFUSAL, peak=GREW) == ()
    assert came(1, REFUSAL, peak=GREW + 1)


def test_what_must_come_of_a_case_is_checked(came):
    assert came(1, REFUSAL, case=replace(CASE, expects=MEASURED))
    report(came.folder)
    assert came(0, case=replace(CASE, expects=REFUSED))
    assert came(0, case=replace(CASE, expects=MEASURED)) == ()


@pytest.mark.parametrize(
    ("json", "html"),
    [
        ('{"x": NaN}', "<p>1</p>"),
        ('{"x": ', "<p>1</p>"),
        ("{}", "<p>\x1b</p>"),
        ("{}", "<p>\u202e</p>"),
        ("{}", "<script>1</script>"),
        ("{}", "<p onclick='x'>1</p>"),
        ("{}", "<img src=x>"),
    ],
)
def test_a_report_is_strict_and_holds_nothing_active(came, json, html):
    report(came.folder, json, html)
    assert came(0)


def test_nothing_is_left_after_a_refusal(came):
    (came.folder / "out.json").write_text("{")
    assert came(1, REFUSAL) == ("left 'out.json'",)


def test_inputs_stay_as_they_were(came):
    (came.folder / "config.json").write_text("[]")
    assert came(1, REFUSAL) == ("changed 'config.json'",)


def test_a_temporary_file_is_a_fault_even_where_work_is_done(came):
    (came.folder / "run").mkdir()
    (came.folder / "run/.checkpoint.safetensors.partial").write_text("x")
    (came.folder / "run/.lock").write_text("")
    case = replace(CASE, command=Command(("train", "x"), (), ("run",)))
    assert came(1, REFUSAL, case=case) == ("left 'run/.checkpoint.safetensors.partial'",)


def test_a_stranger_s_code_that_ran_is_a_fault(came):
    (came.folder / "canary").write_text("")
    assert came(1, REFUSAL) == ("ran a stranger's code",)


def test_a_node_that_became_a_file_is_a_fault(came):
    node = came.folder / "node"
    os.mkfifo(node)
    before = tree(came.folder)
    assert before["node"][0] == stat.S_IFIFO
    node.unlink()
    node.write_text("x")
    assert tree(came.folder)["node"] != before["node"]


def test_what_a_refusal_prints_on_standard_output_is_a_fault(came):
    assert came(1, REFUSAL, printed="half a table\n")
    report(came.folder)
    assert came(0, printed="a token \x1b[31m\n")
    assert came(0, printed="a table\n") == ()


def test_progress_is_only_what_tqdm_writes():
    assert beside_progress(BAR + WIPED) == ""
    assert beside_progress("\rsomething else" + WIPED) != ""
