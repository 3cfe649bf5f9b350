"""Where we write: files are replaced, links followed, and everything else is written into.

These hold for root as well, for whom the system forbids nothing.
"""

import json
import os
import stat
import subprocess
import sys
import threading

import pytest

from nodes import device, node, standard_output
from wideneck.errors import WideneckError
from wideneck.files import place
from wideneck.files.place import check_writable, same_place, stream_number
from wideneck.files.writing import json_text, replacing, write_text

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no files of devices")

WRITE = (
    "import sys; from wideneck.files.writing import write_text\n"
    "from wideneck.files.place import check_writable\n"
    "check_writable(sys.argv[1]); write_text(sys.argv[1], sys.argv[2])"
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def fifo(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("name", ["null", "full"])
def test_a_device_is_written_into_and_stays_what_it_is(tmp_path, name):
    path = device(tmp_path, name)
    before = node(path)
    check_writable(path)
    if name == "full":
        with pytest.raises(WideneckError, match="full could not be written: No space left"):
            write_text(path, "text")
    else:
        write_text(path, "text")
    assert node(path) == before
    assert names(tmp_path) in ([name], [])


def test_a_link_to_a_device_is_followed(tmp_path):
    path = device(tmp_path, "null")
    (tmp_path / "link").symlink_to(path)
    before = node(path)
    write_text(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink()
    assert node(path) == before


def test_a_pipe_gets_the_text_and_stays_a_pipe(fifo):
    before, found = node(fifo), []
    reader = threading.Thread(target=lambda: found.append(fifo.read_bytes()), daemon=True)
    reader.start()
    check_writable(fifo)
    write_text(fifo, "täxt" * 100_000)  # more than a pipe holds
    reader.join(10)
    assert found == ["täxt".encode() * 100_000]
    assert node(fifo) == before
    assert names(fifo.parent) == ["fifo"]


def test_a_pipe_without_a_reader_is_a_sentence_and_no_wait_for_ever(fifo, monkeypatch):
    monkeypatch.setattr(place, "READER", 0.1)
    with pytest.raises(WideneckError, match="a pipe that nobody reads: start its reader first"):
        write_text(fifo, "text")


@pytest.mark.parametrize("into", ["pipe", "file"])
def test_standard_output_is_gone_on_with(tmp_path, into):
    name = standard_output(tmp_path)
    code = f"print('before', flush=True)\n{WRITE}\nprint('after')"
    command = [sys.executable, "-c", code, name, "text\n"]
    if into == "pipe":
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    else:
        with (tmp_path / "out").open("w") as file:
            subprocess.run(command, stdout=file, check=True)
        out = (tmp_path / "out").read_text()
    assert out == "before\ntext\nafter\n"
    assert os.readlink(name) == "/proc/self/fd/1"
    assert names(tmp_path) == (["stdout"] if into == "pipe" else ["out", "stdout"])


@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_the_names_of_standard_output_are_known(path):
    if os.path.exists(path):
        assert stream_number(path) == 1


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    target = tmp_path / "there" / "file"
    target.write_text("old")
    (tmp_path / "link").symlink_to("there/file")
    (tmp_path / "dangling").symlink_to("there/new")
    for name, file in (("link", target), ("dangling", tmp_path / "there" / "new")):
        check_writable(tmp_path / name)
        write_text(tmp_path / name, "new")
        assert (tmp_path / name).is_symlink()
        assert file.read_text() == "new"
    assert names(tmp_path / "there") == ["file", "new"]


def test_a_file_keeps_its_permissions_and_a_new_one_has_the_usual(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("old")
    old.chmod(0o640)
    before = os.umask(0o027)
    try:
        write_text(old, "text")
        write_text(new, "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE(old.stat().st_mode) == 0o640
    assert stat.S_IMODE(new.stat().st_mode) == 0o640
    old.chmod(0o604)
    write_text(old, "text")
    assert stat.S_IMODE(old.stat().st_mode) == 0o604


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0,
    reason="the system lets only root give a file to another owner",
)
def test_a_file_keeps_its_owner(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    os.chown(path, 1234, 1235)
    write_text(path, "new")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1235)


def _half_written(path, error):
    with replacing(path) as temporary:
        temporary.write_text("half")
        raise error


def test_what_fails_on_the_way_leaves_what_was_there(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    for error in (OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError()):
        with pytest.raises((WideneckError, KeyboardInterrupt, ValueError)):
            _half_written(path, error)
        assert names(tmp_path) == ["file"]
        assert path.read_text() == "old"


def test_file_and_folder_are_forced_to_the_disk(tmp_path, monkeypatch):
    forced = []
    monkeypatch.setattr(os, "fsync", lambda fd: forced.append(stat.S_IFMT(os.fstat(fd).st_mode)))
    write_text(tmp_path / "file", "text")
    assert forced == [stat.S_IFREG, stat.S_IFDIR]


def test_a_name_as_long_as_the_system_takes_can_be_written(tmp_path):
    path = tmp_path / ("x" * 255)
    check_writable(path)
    write_text(path, "text")
    assert names(tmp_path) == ["x" * 255]


def refused(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "kept").write_text("old")
    (tmp_path / "kept").chmod(0o444)
    (tmp_path / "to-kept").symlink_to("kept")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere").symlink_to("missing/file")
    return {
        tmp_path: "is a folder",
        tmp_path / "missing" / "file": "there is no folder",
        tmp_path / "nowhere": "there is no folder",
        tmp_path / "file" / "below": "Not a directory",
        tmp_path / "kept": "is read-only",
        tmp_path / "to-kept": "is read-only",
        tmp_path / "loop": "Too many levels",
        tmp_path / ("x" * 256): "name too long",
        tmp_path / os.fsdecode(b"\xff.json"): "its name is no UTF-8",
        tmp_path / "a\0b": "no name of a file",
    }


def test_what_cannot_be_written_is_a_sentence_before_the_work(tmp_path):
    for path, said in refused(tmp_path).items():
        before = names(tmp_path)
        with pytest.raises(WideneckError, match=said) as caught:
            check_writable(path)
        assert str(path) in str(caught.value)
        assert names(tmp_path) == before


def test_a_descriptor_that_takes_nothing_is_refused_before_the_work(tmp_path):
    reader, writer = os.pipe()
    try:
        check_writable(f"/dev/fd/{writer}")
        with pytest.raises(WideneckError, match="open for reading only"):
            check_writable(f"/dev/fd/{reader}")
    finally:
        os.close(reader)
        os.close(writer)
    with pytest.raises(WideneckError, match="cannot be written: Bad file descriptor"):
        check_writable(f"/dev/fd/{writer}")


@pytest.mark.parametrize("digits", [10, 20, 5000])
def test_a_descriptor_of_more_digits_than_there_are_is_a_sentence(digits):
    path = "/dev/fd/" + "9" * digits
    assert stream_number(path) is None
    with pytest.raises(WideneckError, match="cannot be written"):
        check_writable(path)


def test_a_disk_is_no_place_for_a_report(tmp_path, monkeypatch):
    real = os.stat

    def stat_of_a_disk(path, *args, **options):
        found = list(real(path, *args, **options))
        found[0] = stat.S_IFBLK | 0o660
        return os.stat_result(found)

    (tmp_path / "disk").write_text("")
    monkeypatch.setattr(place.os, "stat", stat_of_a_disk)
    with pytest.raises(WideneckError, match="a device that a report cannot go to"):
        check_writable(tmp_path / "disk")


def test_what_is_read_is_not_written_over(tmp_path):
    (tmp_path / "model").write_text("")
    (tmp_path / "link").symlink_to("model")
    for name in ("model", "link"):
        with pytest.raises(WideneckError, match="is read by this command"):
            check_writable(tmp_path / name, reads=[None, tmp_path / "model"])
    check_writable(tmp_path / "gpt2", reads=[str(tmp_path / "gpt2")])  # an id, and no file


def test_one_place_under_several_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("a")
    for there in (False, True):
        if there:
            (tmp_path / "a").write_text("")
        for other in ("./a", "link", str(tmp_path / "a"), "../" + tmp_path.name + "/a"):
            assert same_place("a", other)
        assert not same_place("a", "b")
    assert not same_place("/dev/null", "/dev/null")


def test_json_holds_no_character_that_acts_on_a_terminal():
    strange = "a\x1b[31m\x9b\u202e\x7f\n\U000e0041\u00a0ä€"
    text = json_text({strange: [strange]})
    assert all(c.isprintable() or c == "\n" for c in text)
    assert "ä€" in text
    assert json.loads(text) == {strange: [strange]}


def test_json_of_a_name_that_is_no_utf8_is_json_for_every_reader():
    text = json_text({"name": os.fsdecode(b"\xff")})
    assert json.loads(text.encode()) == {"name": "\\udcff"}


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "model.safetensors", "recipe.json", "metrics.jsonl"]
)
def test_what_is_read_with_a_folder_is_not_written_over(tmp_path, name):
    (tmp_path / name).write_text("")
    (tmp_path / "report.json").write_text("")
    with pytest.raises(WideneckError, match="is read by this command"):
        check_writable(tmp_path / name, reads=[tmp_path])
    check_writable(tmp_path / name, reads=[tmp_path.parent])
    check_writable(tmp_path / "report.json", reads=[tmp_path])
