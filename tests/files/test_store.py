"""Finished runs on disk."""

import errno
import json
from dataclasses import asdict, dataclass, replace
from typing import Any

import pytest

from report.attention_examples import attention_audit
from wideneck.audits.attention.results import AttentionAudit
from wideneck.errors import WideneckError
from wideneck.files import folder as folders
from wideneck.files.folder import LOCK
from wideneck.files.records import record
from wideneck.files.store import Store

SETTINGS = {"paper": "tiny", "sizes": (1, 5), "model": None}


@dataclass(frozen=True, kw_only=True)
class Inner:
    value: float


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    count: int
    one: Inner | None
    several: list[Inner]
    table: list[list[float | None]]
    by_name: dict[str, Inner]
    anything: Any = None


RUN = Outer(
    name="a",
    count=3,
    one=Inner(value=1.5),
    several=[Inner(value=1), Inner(value=2.0)],
    table=[[1.0, None], []],
    by_name={"x": Inner(value=0.1)},
    anything={"k": [1]},
)


def read(kind, content):
    return record(kind, content, "run.json", "remove it", exact=True)


def opened(path, settings=SETTINGS):
    """The folder after its turn, as others may have it then."""
    with Store.opened(path, settings) as folder:
        return folder


def test_a_run_comes_back_as_it_was_written(tmp_path):
    with Store.opened(tmp_path / "runs", SETTINGS) as folder:
        assert folder.finished("seed0", Outer) is None
        folder.write("seed0", RUN)
    with Store.opened(tmp_path / "runs", SETTINGS) as again:  # tuples are lists there
        assert again.finished("seed0", Outer) == RUN
    files = sorted(p.name for p in (tmp_path / "runs").iterdir())
    assert files == [LOCK, "seed0.json", "settings.json"]


def test_an_audit_comes_back_as_it_was_written():
    for audit in (attention_audit(), attention_audit(ablation=False, closed_form=False)):
        assert read(AttentionAudit, json.loads(json.dumps(asdict(audit)))) == audit


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"name": 1}, "$.name"),
        ({"count": 1.5}, "$.count"),
        ({"count": True}, "$.count"),
        ({"one": []}, "$.one"),
        ({"several": {}}, "$.several"),
        ({"table": [[None, "1"]]}, "$.table[0][1]"),
        ({"by_name": {"x": {"value": 1, "more": 2}}}, "$.by_name.x.more"),
        ({"several": [{"value": 1}, {"value": 1, "more": 2}]}, "$.several[1].more"),
        ({"several": [{}]}, "`value` - at `$.several[0]`"),
        ({"other": 1}, "unknown field `$.other`"),
    ],
)
def test_what_is_not_of_its_kind_is_refused_and_the_key_is_named(change, key):
    with pytest.raises(WideneckError, match=r"run\.json is not as wideneck writes it") as caught:
        read(Outer, asdict(RUN) | change)
    assert key in str(caught.value)


def test_other_settings_are_named_and_nothing_is_changed(tmp_path):
    folder = tmp_path / "runs"
    opened(folder, SETTINGS)
    before = (folder / "settings.json").read_text()
    with pytest.raises(WideneckError, match=r"sizes is \[1, 5\] there, \[1, 6\] here"):
        opened(folder, SETTINGS | {"sizes": (1, 6)})
    with pytest.raises(WideneckError, match="more is None there, 1 here"):
        opened(folder, SETTINGS | {"more": 1})
    assert (folder / "settings.json").read_text() == before


def test_a_refusal_before_the_first_run_leaves_no_settings_in_the_way(tmp_path):
    new, kept = tmp_path / "new", tmp_path / "kept"
    kept.mkdir()
    for folder in (new, kept):
        with pytest.raises(WideneckError, match="no such model"), Store.opened(folder, SETTINGS):
            raise WideneckError("no such model")
    assert not new.exists()
    assert [file.name for file in kept.iterdir()] == [LOCK]  # the user's own folder stays
    for folder in (new, kept):
        opened(folder, SETTINGS | {"model": "another"})


@pytest.mark.parametrize("left", ["run", "checkpoints", "settings"])
def test_an_error_after_something_was_made_keeps_the_settings(left, tmp_path):
    if left == "settings":  # of an earlier command
        opened(tmp_path / "runs", SETTINGS)
    with pytest.raises(WideneckError, match="out of luck"):
        out_of_luck(tmp_path / "runs", left)
    with pytest.raises(WideneckError, match="other settings"):
        opened(tmp_path / "runs", SETTINGS | {"model": "another"})


def out_of_luck(folder, left):
    with Store.opened(folder, SETTINGS) as store:
        if left == "run":
            store.write("a", RUN)
        elif left == "checkpoints":
            (folder / "checkpoints").mkdir()
        raise WideneckError("out of luck")


def test_a_lock_whose_folder_was_given_up_is_no_lock(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    real = fcntl.flock

    def late(file, how):
        (tmp_path / LOCK).unlink()
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(WideneckError, match="Another process works"):
        opened(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_or_holds_something_else_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WideneckError, match="cannot be used as a folder"):
        opened(tmp_path / "file")
    with pytest.raises(WideneckError, match=r"not the settings\.json"):
        opened(tmp_path)


def test_one_process_at_a_time_works_in_a_folder(tmp_path):
    with Store.opened(tmp_path, SETTINGS):
        with pytest.raises(WideneckError, match=r"Another process works in .*; wait for it, or"):
            opened(tmp_path)
    opened(tmp_path)


def test_finished_runs_are_read_where_nothing_can_be_written(tmp_path, monkeypatch):
    opened(tmp_path).write("seed0", RUN)

    def refuse(folder, doing):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(folders, "locked", refuse)
    assert opened(tmp_path).finished("seed0", Outer) == RUN


def test_a_damaged_run_is_named(tmp_path):
    folder = opened(tmp_path / "runs")
    for text in ("{", "[]", '{"name": "a"}'):
        (tmp_path / "runs" / "seed0.json").write_text(text)
        with pytest.raises(WideneckError, match=r"seed0\.json"):
            folder.finished("seed0", Outer)


def test_the_run_of_another_name_is_refused_with_what_differs(tmp_path):
    with Store.opened(tmp_path, SETTINGS) as folder:
        folder.write("a3", RUN)
        assert folder.finished("a3", Outer, name="a", count=3) == RUN
        for differs in ({"name": "b", "count": 3}, {"name": "a", "count": 4}):
            with pytest.raises(WideneckError, match=r"a3\.json holds the run of another name"):
                folder.finished("a3", Outer, **differs)
        with pytest.raises(WideneckError, match="count is 3 there, 4 here"):
            folder.made("a3", Outer, lambda: RUN, count=4)


@pytest.mark.parametrize("name", [".settings.json.k3x9", ".seed0.json.k3x9"])
def test_what_a_killed_process_was_writing_is_swept_and_not_in_the_way(name, tmp_path):
    (tmp_path / name).write_text("{")
    opened(tmp_path).write("seed0", RUN)
    (tmp_path / name).write_text("{")
    assert opened(tmp_path).finished("seed0", Outer) == RUN
    files = sorted(p.name for p in tmp_path.iterdir())
    assert files == [LOCK, "seed0.json", "settings.json"]


def test_a_process_that_lives_keeps_what_it_is_writing(tmp_path):
    with Store.opened(tmp_path, SETTINGS):
        (tmp_path / ".seed0.json.k3x9").write_text("{")
        with pytest.raises(WideneckError, match="Another process works"):
            opened(tmp_path)
        assert (tmp_path / ".seed0.json.k3x9").exists()


def test_a_folder_of_strangers_files_is_left_as_it_is(tmp_path):
    (tmp_path / "notes.txt").write_text("dear")
    (tmp_path / ".mine.json.k3x9").write_text("{")
    with pytest.raises(WideneckError, match=r"not the settings\.json"):
        opened(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".mine.json.k3x9", "notes.txt"]


@pytest.mark.parametrize("value", ["NaN", "1e999", "-Infinity"])
def test_a_number_that_is_not_finite_is_refused_when_it_is_read(tmp_path, value):
    with Store.opened(tmp_path, SETTINGS) as folder:
        folder.write("seed0", RUN)
        path = tmp_path / "seed0.json"
        path.write_text(path.read_text().replace("1.5", value))
        with pytest.raises(WideneckError, match="which is no number"):
            folder.finished("seed0", Outer)


def test_and_when_it_is_written(tmp_path):
    run = replace(RUN, one=Inner(value=float("nan")))
    with Store.opened(tmp_path, SETTINGS) as folder:
        with pytest.raises(WideneckError, match="The run seed0 measured a number"):
            folder.write("seed0", run)
        assert folder.finished("seed0", Outer) is None


def test_settings_of_before_a_field_was_renamed_are_the_same(tmp_path):
    """Files of before December 2026 call a mixture's `embedding_size` its `context_size`."""

    def asked(name: str, size: int) -> dict[str, Any]:
        return {"arms": [{"head": {"name": "mos", name: size}}]}

    with Store.opened(tmp_path / "runs", asked("context_size", 16)) as store:
        store.write("a", RUN)
    with Store.opened(tmp_path / "runs", asked("embedding_size", 16)) as store:
        assert store.finished("a", Outer) == RUN
    with (
        pytest.raises(WideneckError, match=r"arms.*embedding_size|arms is"),
        Store.opened(tmp_path / "runs", asked("embedding_size", 8)),
    ):
        pass
