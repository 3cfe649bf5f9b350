"""What a command writes where: devices, pipes, standard output, and one line on standard error.

`wideneck heads` stands for the commands with --json, as it needs no torch.
"""

import json
import os
import subprocess
import sys
import threading

import pytest

from nodes import device, node, standard_output

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no files of devices")

MAIN = "from wideneck.cli import main; main()"


def python(code, *arguments, debug=False, **options):
    environment = {k: v for k, v in os.environ.items() if k != "WIDENECK_DEBUG"}
    environment |= {"WIDENECK_DEBUG": "1"} if debug else {}
    options = {"stdout": subprocess.PIPE, **options}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        env=environment,
        **options,
    )


def heads(*arguments, **options):
    return python(MAIN, "heads", *arguments, **options)


def assert_one_line(done, said):
    assert done.returncode == 1
    assert done.stderr.startswith("wideneck: ")
    assert said in done.stderr
    assert done.stderr.removesuffix("\n").isprintable()


@pytest.mark.parametrize("name", ["full", "null"])
def test_a_device_stays_a_device_and_the_table_is_there_all_the_same(tmp_path, name):
    path = device(tmp_path, name)
    before = node(path)
    done = heads("--json", path)
    assert node(path) == before
    assert "sigsoftmax" in done.stdout
    if name == "full":
        assert_one_line(done, "full could not be written: No space left on device")
    else:
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("into", ["pipe", "file"])
def test_standard_output_by_name_is_json_alone(tmp_path, into):
    name = standard_output(tmp_path)
    if into == "pipe":
        out = heads("--json", name).stdout
    else:
        with (tmp_path / "out").open("w") as file:
            heads("--json", name, stdout=file)
        out = (tmp_path / "out").read_text()
    assert json.loads(out)["heads"]
    assert out == heads("--json", "-").stdout
    assert os.readlink(name) == "/proc/self/fd/1"


def test_a_pipe_gets_the_json(tmp_path):
    fifo, found = tmp_path / "fifo", []
    os.mkfifo(fifo)
    before = node(fifo)
    reader = threading.Thread(target=lambda: found.append(fifo.read_text()), daemon=True)
    reader.start()
    done = heads("--json", fifo)
    reader.join(10)
    assert done.returncode == 0
    assert json.loads(found[0])["heads"]
    assert node(fifo) == before


@pytest.mark.parametrize("arguments", [[], ["--json", "-"]])
def test_a_full_disk_behind_standard_output_is_one_line(arguments):
    with open("/dev/full", "w") as full:
        done = heads(*arguments, stdout=full)
    assert_one_line(done, "Standard output cannot be written: No space left on device")


@pytest.mark.parametrize("arguments", [[], ["--json", "-"]])
def test_a_reader_that_has_read_enough_is_no_mistake_worth_a_traceback(arguments):
    reading, writing = os.pipe()
    os.close(reading)
    done = heads(*arguments, stdout=writing)
    os.close(writing)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert len(done.stderr.splitlines()) <= 1


def test_a_closed_standard_output_is_one_line():
    done = python(f"import sys; sys.stdout = None\n{MAIN}", "heads", "--json", "-")
    assert_one_line(done, "Standard output is closed")
    assert python(f"import sys; sys.stdout = None\n{MAIN}", "heads").returncode == 0


def test_both_files_in_one_place_are_refused(tmp_path):
    (tmp_path / "link").symlink_to("a")
    for html, other in (("a", "./a"), ("a", "link"), (standard_output(tmp_path), "-")):
        done = python(MAIN, "audit", "no.gguf", "--html", html, "--json", other, cwd=tmp_path)
        assert_one_line(done, f"--html and --json both name {html}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "stdout"]


def test_a_model_is_not_written_over(tmp_path):
    (tmp_path / "model.gguf").write_text("five gigabytes")
    done = python(MAIN, "audit", "model.gguf", "--json", "./model.gguf", cwd=tmp_path)
    assert_one_line(done, "is read by this command")
    assert (tmp_path / "model.gguf").read_text() == "five gigabytes"


NATIVE = """
import os, sys
from wideneck.commands.streams import native_output_apart
with native_output_apart():
    os.write(2, b"thread panicked\\n")
    os.system("echo of a child >&2")
    print("progress", file=sys.stderr)
print("after", file=sys.stderr)
os.write(2, b"as before\\n")
"""


def test_what_native_code_prints_on_standard_error_goes_nowhere():
    assert python(NATIVE).stderr == "progress\nafter\nas before\n"


def test_what_native_code_prints_is_there_for_who_asks():
    assert "thread panicked\nof a child\n" in python(NATIVE, debug=True).stderr


def test_a_fault_of_native_code_is_told_where_python_was_asked_to():
    code = (
        "import faulthandler, os; faulthandler.enable()\n"
        "from wideneck.commands.streams import native_output_apart\n"
        "with native_output_apart(): os.abort()"
    )
    assert "Fatal Python error: Aborted" in python(code).stderr


WARNING = """
import logging, sys, warnings
from wideneck.commands.streams import prepare_streams
prepare_streams()
warnings.warn("of another library")
logging.getLogger("other").error("of another library")
warnings.warn("wideneck: of ours")
"""


def test_warnings_and_logs_of_other_libraries_are_for_who_asks():
    quiet, loud = python(WARNING).stderr, python(WARNING, debug=True).stderr
    assert quiet == "wideneck: of ours\n"
    assert loud.count("of another library") >= 2


def test_streams_that_a_program_has_put_in_their_place_stop_nothing():
    code = (
        "import io, sys; from wideneck.cli import main\n"
        "real, sys.stdout, sys.stderr = sys.stdout, io.StringIO(), io.StringIO()\n"
        "try: main()\n"
        "finally: real.write(sys.stdout.getvalue())"
    )
    done = python(code, "heads")
    assert (done.returncode, done.stderr) == (0, "")
    assert "sigsoftmax" in done.stdout


def raising(what, **options):
    code = f"""
import wideneck.cli as cli
from wideneck.errors import WideneckError
class OutOfMemoryError(RuntimeError): pass
def app(): raise {what}
cli.app = app
cli.main()
"""
    return python(code, **options)


@pytest.mark.parametrize(
    "error",
    [
        "MemoryError()",
        "OutOfMemoryError('CUDA out of memory.')",
        'RuntimeError("[enforce fail] DefaultCPUAllocator: can\'t allocate memory: you tried")',
    ],
)
def test_too_little_memory_is_one_line(error):
    done = raising(error)
    assert_one_line(done, "This machine's memory is too small")
    assert "Traceback" in raising(error, debug=True).stderr


def test_a_message_is_one_printable_line_that_keeps_its_end():
    done = raising("WideneckError('a\\x1b[31m\\nb' + 10**6 * 'x' + ': download it again.')")
    assert_one_line(done, r"wideneck: a\x1b[31m\nb")
    assert done.stderr.endswith("x: download it again.\n")
    assert len(done.stderr) < 2100


def test_a_mistake_of_ours_keeps_its_traceback_and_is_printable():
    for error in ("AssertionError", "RuntimeError"):
        done = raising(f"{error}('\\x1b[31m')")
        assert done.returncode == 1
        assert "Traceback" in done.stderr
        assert f"{error}: \\x1b[31m" in done.stderr
        assert "\x1b" not in done.stderr


def test_the_cause_of_a_message_is_there_for_who_asks():
    code = "WideneckError('said') from ZeroDivisionError('why')"
    assert raising(code).stderr == "wideneck: said\n"
    done = raising(code, debug=True)
    assert "ZeroDivisionError: why" in done.stderr
    assert done.stderr.endswith("wideneck: said\n")


def test_an_encoding_that_lacks_the_characters_stops_nothing():
    code = (
        "from wideneck.commands.streams import prepare_streams; prepare_streams()\n"
        "print('\\u05e9\\udcff')"
    )
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert done.stdout == rb"\u05e9\udcff" + b"\n", done.stderr
