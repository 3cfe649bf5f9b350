"""What is read as a text: files, pipes and gzip, up to a size; and what is refused at once."""

import gzip
import os
import stat
import threading
import tracemalloc

import pytest
from typer.testing import CliRunner

from wideneck import cli
from wideneck.commands.evaluated_text import chosen_text
from wideneck.data import read_corpus, read_text, read_vocabulary, text
from wideneck.errors import WideneckError
from wideneck.files import text_file
from wideneck.files.text_file import read_text_file, size_in_bytes, texts_up_to
from wideneck.lab.ambiguous.words import read_analogies
from wideneck.lab.saturation.loss_table import COLUMNS, read_losses
from wideneck.training.recipe_file import read_recipe

MARK = b"\xef\xbb\xbf"


def pipe(path, content):
    """A pipe into which `content` is written once."""
    os.mkfifo(path)
    threading.Thread(target=path.write_bytes, args=(content,), daemon=True).start()
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_a_pipe_is_read_once_and_whole(tmp_path, packed):
    content = b"one\r\n" * 100_000 + b"two"
    path = pipe(tmp_path / "pipe", gzip.compress(content) if packed else content)
    assert read_text_file(path) == "one\n" * 100_000 + "two"


def test_an_evaluated_pipe_is_read_whole_as_a_file_is(tmp_path):
    content = "".join(f"line {k}\n" for k in range(50)).encode()
    (tmp_path / "a.txt").write_bytes(content)
    handle, end = os.pipe()
    os.write(end, content)
    os.close(end)
    try:
        through = chosen_text(f"/dev/fd/{handle}", None)
    finally:
        os.close(handle)
    assert through.documents == chosen_text(str(tmp_path / "a.txt"), None).documents
    assert through.split is None


def test_a_pipe_without_a_writer_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(text_file, "PATIENCE", 0.05)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WideneckError, match=r"Nothing came out of the pipe .* start the writer"):
        read_text_file(tmp_path / "pipe")


def test_a_writer_that_takes_its_time_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(text_file, "PATIENCE", 0.05)
    os.mkfifo(tmp_path / "pipe")
    with open(os.open(tmp_path / "pipe", os.O_RDWR), "wb") as writer:  # both ends: never blocks
        timer = threading.Timer(0.3, lambda: (os.write(writer.fileno(), b"late"), writer.close()))
        timer.start()
        assert read_text_file(tmp_path / "pipe") == "late"
        timer.join()


def test_a_device_is_refused_before_it_is_opened(monkeypatch):
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("it was opened"))
    for device in ("/dev/zero", "/dev/urandom"):
        assert stat.S_ISCHR(os.stat(device).st_mode)
        with pytest.raises(WideneckError, match="is a device and no text file: give the path of"):
            read_text(device)
        with pytest.raises(WideneckError, match="is a device"):
            read_corpus(device)


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "~nobody/x\udcff"])
def test_a_name_that_no_file_has_is_one_sentence(name):
    for read in (read_text, read_corpus, read_vocabulary, lambda path: chosen_text(path, None)):
        with pytest.raises(WideneckError):
            read(name)


def test_a_file_over_the_cap_is_refused_before_it_is_read(tmp_path, monkeypatch):
    with (tmp_path / "a.txt").open("wb") as file:
        file.truncate(10**12)  # holes: it takes no place
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("it was opened"))
    message = r"has 1,000,000,000,000 bytes, and at most 2,000,000,000 .* raise --max-text"
    with pytest.raises(WideneckError, match=message):
        read_text(tmp_path / "a.txt")


def test_a_bomb_is_unpacked_no_further_than_the_cap(tmp_path):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"a" * 40_000_000))
    tracemalloc.start()
    try:
        with (
            texts_up_to(2_000_000),
            pytest.raises(WideneckError, match="more than 2,000,000 bytes once it is unpacked"),
        ):
            read_text(tmp_path / "a.txt.gz")
        assert tracemalloc.get_traced_memory()[1] < 12_000_000
    finally:
        tracemalloc.stop()


def test_a_pipe_is_read_no_further_than_the_cap(tmp_path):
    handle, end = os.pipe()
    os.write(end, b"a" * 60_000)
    os.close(end)
    with texts_up_to(50_000), pytest.raises(WideneckError, match="has more than 50,000 bytes"):
        read_text(f"/dev/fd/{handle}")
    os.close(handle)


GZIP = gzip.compress(b"one\ntwo\n", mtime=0)


def test_members_of_gzip_follow_each_other_and_zeros_may_follow(tmp_path):
    (tmp_path / "a").write_bytes(GZIP + GZIP + bytes(100))
    assert read_text_file(tmp_path / "a") == "one\ntwo\none\ntwo\n"


@pytest.mark.parametrize(
    "content", [GZIP[:-9], GZIP[:3], GZIP + b"more", GZIP[:-6] + b"\xff" * 6, b"plain"]
)
def test_damaged_gzip_is_one_sentence(tmp_path, content):
    (tmp_path / "a.gz").write_bytes(content)
    with pytest.raises(WideneckError, match="cannot be unpacked") as caught:
        read_text(tmp_path / "a.gz")
    assert "\n" not in str(caught.value)


LOSSES = f"{','.join(COLUMNS)}\nmine,20,10,1e9,3.5,true\n".encode()
RECIPE = b'model = "awd_lstm"\n'


def test_a_byte_order_mark_is_no_text(tmp_path):
    file = tmp_path / "train.txt"
    file.write_bytes(MARK + b"one\ntwo\nthree\n")
    assert read_text(file).documents == ["one\ntwo\nthree\n"]
    (tmp_path / "valid.txt.gz").write_bytes(gzip.compress(MARK + b"four\n"))
    assert read_corpus(str(tmp_path)).valid == ("four\n",)
    file.write_bytes(MARK + b"<eos>\n<unk>\n")
    assert read_vocabulary(file).words == ("<eos>", "<unk>")
    file.write_bytes(MARK + RECIPE)
    assert read_recipe(file) == read_recipe(_written(tmp_path / "b.toml", RECIPE))
    file.write_bytes(MARK + LOSSES)
    assert read_losses(file)[0].name == "mine"


def _written(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("read", [read_text, read_vocabulary, read_recipe, read_losses])
@pytest.mark.parametrize("coding", ["utf-16", "utf-16-be", "utf-32"])
def test_utf_16_is_called_by_its_name(tmp_path, read, coding):
    path = _written(tmp_path / "a.txt", "a text\n".encode(coding))
    with pytest.raises(WideneckError, match=r"UTF-(16|32)"):
        read(path)
    with pytest.raises(WideneckError, match=r"UTF-(16|32)"):
        read_analogies(path)


@pytest.mark.parametrize("content", [b"\xed\xa0\x80", b"a\xff", b"\xf8\x88\x80\x80\x80"])
def test_half_a_surrogate_is_no_utf_8(tmp_path, content):
    with pytest.raises(WideneckError, match=r"byte \d+, in line 2"):
        read_text(_written(tmp_path / "a.txt", b"line\n" + content))


def test_form_feeds_without_end_are_refused_without_a_list_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "MANY", 1000)
    _written(tmp_path / "a.txt", b"\f" * 3_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(WideneckError, match=r"1,001 documents in its first 1,001 char"):
            read_text(tmp_path / "a.txt")
        assert tracemalloc.get_traced_memory()[1] < 15_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("said", "size"),
    [("500MB", 500_000_000), ("2GB", 2 * 10**9), ("1.5 kb", 1500), ("12", 12), ("3g", 3 * 10**9)],
)
def test_a_size_is_said_in_units_or_bytes(said, size):
    assert size_in_bytes(said) == size


@pytest.mark.parametrize("said", ["", "0", "-1", "GB", "1e9", "2 gigs", "0.1", "inf", "9" * 5000])
def test_what_is_no_size_is_one_sentence(said):
    with pytest.raises(WideneckError, match="--max-text is a size such as 500MB"):
        size_in_bytes(said)


@pytest.mark.parametrize(
    "command", [["audit"], ["evaluate"], ["train", "recipe.toml"], ["reproduce", "sigsoftmax"]]
)
def test_every_command_that_reads_a_text_takes_the_cap(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    _written(tmp_path / "recipe.toml", RECIPE)
    _written(tmp_path / "text.txt", b"a b\n" * 500)
    arguments = [*command, "--text", "text.txt", "--max-text", "1KB"]
    found = CliRunner().invoke(cli.app, arguments)
    assert isinstance(found.exception, WideneckError), found.output
    assert "text.txt has 2,000 bytes, and at most 1,000 bytes" in str(found.exception)
    assert read_text("text.txt").documents  # the cap ends with the command


@pytest.mark.parametrize("content", [b"", b"\n", b"a", b"a\n", b"a\n\nb", b"\n\na\r\nb\xff\n"])
@pytest.mark.parametrize("step", [1, 2, 3, 2**20])
@pytest.mark.parametrize("packed", [False, True])
def test_lines_are_those_of_the_bytes(tmp_path, monkeypatch, content, step, packed):
    monkeypatch.setattr(text_file, "STEP", step)
    (tmp_path / "a").write_bytes(gzip.compress(content) if packed else content)
    expected = content.removesuffix(b"\n").split(b"\n") if content else []
    assert list(text_file.file_lines(tmp_path / "a")) == expected


def test_a_line_of_many_steps_is_joined_once_and_no_text_is_kept(tmp_path):
    line = b"x" * 3 * text_file.STEP
    (tmp_path / "a").write_bytes(b"\n".join([line] * 4))
    tracemalloc.start()
    lengths = [len(found) for found in text_file.file_lines(tmp_path / "a")]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert lengths == [len(line)] * 4
    assert peak < 4 * len(line)


def test_too_large_a_file_is_refused_before_its_lines(tmp_path):
    (tmp_path / "a").write_bytes(b"a\n" * 100)
    with pytest.raises(WideneckError, match="has 200 bytes, and it may have 99"):
        next(text_file.file_lines(tmp_path / "a", most=99))
