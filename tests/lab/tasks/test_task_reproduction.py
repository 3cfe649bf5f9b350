"""`wideneck reproduce histalign --task ...` from pairs to table, in runs of a few steps."""

import contextlib
import io
import json
import sys
from dataclasses import replace

import pytest

from lab.paper_page import checked
from lab.tasks.small_tasks import TINY, use_tiny
from wideneck.commands.reproduce import reproduce
from wideneck.errors import WideneckError
from wideneck.lab.histalign.objectives import OBJECTIVES
from wideneck.lab.published import ours, prose, published_results
from wideneck.lab.tasks import pair_tasks
from wideneck.lab.tasks import reproduction as module
from wideneck.lab.tasks.pair_tasks import recipe_of
from wideneck.lab.tasks.pairs import Pair, Pairs
from wideneck.lab.tasks.views import WRITTEN


def summaries():
    words = "load save merge split count print close open read write".split()
    pairs = [
        Pair(f"{a.title()}s all {b} calls of run_{i} and then waits for {a}", f"{a} the {b} calls")
        for i, (a, b) in enumerate((a, b) for a in words for b in words)
    ]
    return Pairs(
        name="made up", counts={"here": 100}, train=pairs[20:], valid=pairs[:10], test=pairs[10:20]
    )


@pytest.fixture(scope="module", params=["data-to-text", "summaries"])
def finished(request, tmp_path_factory):
    """One reproduction of two seeds: task, folder, what was printed, the JSON."""
    place = tmp_path_factory.mktemp(request.param)
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        use_tiny(patch)
        patch.setattr(pair_tasks, "docstring_pairs", summaries)
        patch.setenv("COLUMNS", "80")
        files = {"json": place / "all.json", "html": place / "all.html"}
        reproduce("histalign", task=request.param, num_seeds=2, out=place / "runs", **files)
    content = json.loads((place / "all.json").read_text())
    return request.param, place / "runs", printed.getvalue(), content


def test_every_objective_has_its_rows_in_80_columns(finished):
    task, _, table, content = finished
    lines = [line.rstrip() for line in table.splitlines()]
    assert max(map(len, lines)) <= 80
    for title in ("plain", "plain, cache fitted", "TRIME, memory off", "HistAlign", "  reference"):
        assert any(line.startswith(title) for line in lines), title
    shown = [(row["objective"], row["view"]) for row in content["rows"]]
    assert shown == [(name, view) for name, views in WRITTEN.items() for view in views]
    names = {
        "runs[].views",
        "rows[].figures",
        "differences[].visible",
        "directions[].verdict.words",
    }
    assert names <= set(content["definitions"])
    assert content["settings"]["task"] == task


def test_on_the_page_every_column_leads_to_its_definition(finished):
    task, folder, _, _ = finished
    text = checked((folder.parent / "all.html").read_text())
    assert "is DERIVED" in text
    assert {"data-to-text": "Pairs: train (40)", "summaries": "Pairs: here (100)"}[task] in text
    assert "What differs and why" in text


def test_texts_stand_in_the_runs_with_their_measures(finished):
    _, _, _, content = finished
    for run in content["runs"]:
        for name, view in run["views"].items():
            written = name in WRITTEN[run["objective"]]
            assert len(view["texts"]) == (10 if written else 0)
            assert all(len(values) == len(view["texts"]) for values in view["each"].values())
            assert len(view["losses"]) == 10
        assert run["views"]["off"]["memory_share"] == 0
        fitted, off = (sum(run["views"][v]["losses"]) for v in ("fitted", "off"))
        assert fitted < off + 1  # fitted on other documents


def test_differences_are_those_of_the_runs(finished):
    _, _, _, content = finished
    runs = {(run["objective"], run["seed"]): run for run in content["runs"]}
    for one in content["differences"]:
        (mine, how), (other, plain) = one["ours"], one["theirs"]
        by_seed = [
            [
                sum(runs[name, seed]["views"][view]["losses"]) / 10
                for name, view in ((mine, how), (other, plain))
            ]
            for seed in (0, 1)
        ]
        mean = sum(a - b for a, b in by_seed) / 2
        assert one["figures"]["loss"]["mean"] == pytest.approx(mean)
        assert one["documents"]["loss"]["value"] == pytest.approx(mean)
        assert one["documents"]["loss"]["over"] == "documents"


def test_running_again_makes_only_what_is_missing(finished, monkeypatch, capsys):
    task, folder, _, content = finished
    use_tiny(monkeypatch)
    monkeypatch.setattr(pair_tasks, "docstring_pairs", summaries)
    (folder / "trime-seed1.json").unlink()
    (folder / module.CHECKPOINTS / "trime-seed0").mkdir()  # of a kill before it was removed
    made = []
    real = module.run
    monkeypatch.setattr(module, "run", lambda *a, **k: made.append(a[1:3]) or real(*a, **k))
    reproduce("histalign", task=task, num_seeds=2, out=folder, json=folder.parent / "again.json")
    assert made == [("trime", 1)]
    again = json.loads((folder.parent / "again.json").read_text())
    assert [run["views"] for run in again["runs"]] == [run["views"] for run in content["runs"]]
    assert not list((folder / module.CHECKPOINTS).iterdir())
    monkeypatch.setattr(pair_tasks, "recipe_of", lambda task, scale: replace(TINY, num_steps=4))
    with pytest.raises(WideneckError, match="recipe"):
        reproduce("histalign", task=task, out=folder)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"task": "summary"}, "Did you mean 'summaries'"),
        ({"task": "templates"}, "Did you mean 'template'"),
        ({"task": "summaries", "words": "x"}, "belongs to --task template"),
        ({"data": "x"}, "belongs to the other tasks"),
        ({"task": "data-to-text", "scale": "small", "model": "x"}, "leave out --model"),
        ({"task": "data-to-text", "scale": "paper"}, "name it by --data"),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused(given, says, tmp_path):
    with pytest.raises(WideneckError, match=says):
        reproduce("histalign", **given, out=tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("task", "module", "package"),
    [
        ("summaries", "rouge_score.rouge_scorer", "rouge-score"),
        ("data-to-text", "sacrebleu.metrics", "sacrebleu"),
    ],
)
def test_a_package_that_measures_is_missed_before_anything_is_trained(
    task, module, package, monkeypatch, tmp_path
):
    use_tiny(monkeypatch)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(WideneckError, match=f"measures with {package}: pip install"):
        reproduce("histalign", task=task, out=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_an_empty_split_is_refused(monkeypatch, tmp_path):
    use_tiny(monkeypatch)
    monkeypatch.setattr(pair_tasks, "docstring_pairs", lambda: replace(summaries(), valid=[]))
    with pytest.raises(WideneckError, match="made up has no pair in its valid split"):
        reproduce("histalign", task="summaries", out=tmp_path / "none")


@pytest.mark.parametrize("task", pair_tasks.MEASURES)
def test_every_recipe_of_ours_is_read_and_every_column_is_known(task):
    assert recipe_of(task, "small").shape is not None
    assert recipe_of(task, "paper").shape is None
    told = prose("tasks")
    for name in told["methods"].values():
        assert name[1] in WRITTEN[name[0]]
    assert set(told["titles"]) <= set(OBJECTIVES)
    for data in told[task]["published"]:
        for name in told[task]["beside"]:
            assert len(published_results("tasks").find(data=data, measure=name)) == 3
    assert ours("tasks", "scale")[task]
