"""`wideneck reproduce attention` from a model and a text to the table, on a tiny model."""

import contextlib
import io
import json
import shutil

import pytest

from lab.paper_page import checked, rows
from lab.small_attention import CONTEXT, saved_model, saved_text, use_tiny
from wideneck.commands.reproduce import reproduce
from wideneck.data import read_text
from wideneck.errors import WideneckError
from wideneck.lab.attention import reproduction
from wideneck.lab.attention.reproduction import SCALES, other_than_paper, settings, text_of
from wideneck.lab.registry import Request


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attention")
    saved_model(folder / "model")
    saved_text(folder)
    return folder


def options(place, **more):
    return {"model": str(place / "model"), "text": str(place / "text.txt"), "num_seeds": 2} | more


@pytest.fixture(scope="module")
def finished(place):
    """One reproduction of two seeds: its table and its JSON."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        use_tiny(patch)
        patch.setenv("COLUMNS", "80")
        files = {"json": place / "all.json", "html": place / "all.html"}
        reproduce("attention", **options(place, out=place / "runs", **files))
    return printed.getvalue(), json.loads((place / "all.json").read_text())


def test_the_table_has_the_paper_s_words_and_ours(finished):
    table, content = finished
    assert max(len(line.rstrip()) for line in table.splitlines()) <= 80
    whole = " ".join(table.split())
    for claim in content["published"]["claims"]:
        assert claim["says"] in whole, claim["name"]
    for result in content["published"]["results"]:
        assert result["printed"] in whole, result["row"]
    assert "Not comparable: another model." in table
    assert "\N{PLUS-MINUS SIGN}" in table
    for size in SCALES["small"].sizes:
        assert any(line.split()[:1] == [str(size)] for line in table.splitlines())


def test_the_page_has_the_paper_s_words_set_back_and_ours_below(place, finished):
    page, content = (place / "all.html").read_text(), finished[1]
    text = checked(page)
    assert "Limitations of Normalization in Attention Mechanism" in text
    assert "Not comparable: another model." in text
    theirs = rows(page, beside=True)
    judged = {one["published"]["says"] for one in content["claims"]}
    assert len(theirs) == len(judged) + 4  # numbers that have a counterpart
    tables = ("by_size", "by_length", "by_temperature", "numbers", "claims")
    assert len(rows(page, beside=False)) == sum(len(content[name]) for name in tables)
    assert page.count('class="over" colspan="4"') == len(theirs)


def test_the_json_has_every_seed_s_audit_and_what_each_number_is(finished):
    _, content = finished
    assert [run["seed"] for run in content["runs"]] == [0, 1]
    first, second = (run["audit"] for run in content["runs"])
    assert first["loss"]["value"] != second["loss"]["value"]  # other windows
    assert first["context"] == CONTEXT
    assert len(content["settings"]["text_sha256"]) == 64
    points = content["by_size"]
    mean = (first["by_size"][1]["distance"] + second["by_size"][1]["distance"]) / 2
    assert points[1]["at"] == 5
    assert points[1]["figures"]["distance"]["mean"] == pytest.approx(mean)
    assert "bound" in content["definitions"]["runs[].audit.by_size[].bound"]["definition"]
    assert content["definitions"]["numbers[].verdict.gap"]["definition"]


def test_running_again_makes_only_what_is_missing(place, finished, monkeypatch, capsys):
    use_tiny(monkeypatch)
    monkeypatch.setenv("COLUMNS", "80")
    shutil.copytree(place / "runs", place / "again")
    before = json.loads((place / "again" / "seed1.json").read_text())
    (place / "again" / "seed1.json").unlink()
    made = []
    real = reproduction.run
    monkeypatch.setattr(reproduction, "run", lambda *a: made.append(a[3]) or real(*a))
    reproduce("attention", **options(place, out=place / "again"))
    assert made == [1]
    after = json.loads((place / "again" / "seed1.json").read_text())
    assert after["audit"] == before["audit"]
    assert capsys.readouterr().out.split("Table 1:")[0] == finished[0].split("Table 1:")[0]
    # With all of them there the model is not even loaded.
    shutil.move(place / "model", place / "elsewhere")
    try:
        reproduce("attention", **options(place, out=place / "again"))
    finally:
        shutil.move(place / "elsewhere", place / "model")
    assert made == [1]


def test_a_folder_of_other_settings_text_or_weights_is_refused(
    place, finished, monkeypatch, tmp_path
):
    use_tiny(monkeypatch)
    with pytest.raises(WideneckError, match="scale is 'small' there, 'paper' here"):
        reproduce("attention", **options(place, scale="paper", out=place / "runs"))
    (tmp_path / "text.txt").write_text((place / "text.txt").read_text() + "more")
    with pytest.raises(WideneckError, match="text_sha256"):
        reproduce(
            "attention", **options(place, text=str(tmp_path / "text.txt"), out=place / "runs")
        )
    shutil.copytree(place / "runs", tmp_path / "runs")
    other = json.loads((tmp_path / "runs" / "seed1.json").read_text()) | {"head_sha256": "other"}
    (tmp_path / "runs" / "seed1.json").write_text(json.dumps(other))
    with pytest.raises(WideneckError, match="different weights"):
        reproduce("attention", **options(place, out=tmp_path / "runs"))


def test_a_run_that_was_copied_over_another_is_refused(place, finished, monkeypatch, tmp_path):
    use_tiny(monkeypatch)
    shutil.copytree(place / "runs", tmp_path / "runs")
    shutil.copy(tmp_path / "runs" / "seed0.json", tmp_path / "runs" / "seed1.json")
    with pytest.raises(WideneckError, match=r"seed1\.json .* \(seed is 0 there, 1 here\)"):
        reproduce("attention", **options(place, out=tmp_path / "runs"))


def test_a_model_with_too_few_positions_is_refused(place, tmp_path, monkeypatch):
    use_tiny(monkeypatch)
    saved_model(tmp_path / "model", positions=64)
    with pytest.raises(WideneckError, match="positions for 64: name another model"):
        reproduce("attention", **options(place, model=str(tmp_path / "model"), out=tmp_path / "r"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scale": "paper"}, "War and Peace: give one by --text"),
        ({"text": "nowhere.txt"}, "no text file nowhere.txt"),
        ({"model": "no-such-folder/no-model", "num_seeds": 0}, "at least one seed"),
    ],
)
def test_a_mistake_is_one_sentence_before_a_folder_is_made(given, message, tmp_path):
    with pytest.raises(WideneckError, match=message):
        reproduce("attention", out=tmp_path / "runs", **given)
    assert not (tmp_path / "runs").exists()


def test_settings_of_a_command_line():
    small, paper = (
        settings(Request(paper="attention", scale=scale, text="t")) for scale in (None, "paper")
    )
    assert (small["scale"], small["model"]) == ("small", None)
    assert (paper["scale"], paper["model"]) == ("paper", "gpt2")
    assert paper["measured"]["num_queries"] is None
    assert other_than_paper(small["model"], None) == "another model and text"
    assert other_than_paper(small["model"], "t") == "another model"
    assert other_than_paper(paper["model"], "t") == ""


def test_of_a_folder_of_splits_the_test_split_is_read(tmp_path):
    for split in ("train", "valid"):
        (tmp_path / f"{split}.txt").write_text(f"The {split} split.\n")
    assert text_of(str(tmp_path)).documents == ["The valid split.\n"]
    (tmp_path / "test.txt").write_text("The test split.\n")
    assert text_of(str(tmp_path)).documents == ["The test split.\n"]
    assert text_of(str(tmp_path / "test.txt")) == read_text(tmp_path / "test.txt")
    assert text_of(None).documents
