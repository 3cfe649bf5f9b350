"""A run of `wideneck train` with a [watch] table."""

import json

import pytest
from training_runs import AWD, GPT2, STATES, Killed, changed, frozen_model, metrics, text, trained

from wideneck.errors import WideneckError
from wideneck.report.watched import watch_report
from wideneck.training.recipe_file import recipe

WATCH = {"scores_every": 2, "weights_every": 3, "spectra_every": 4, "limit": 0.0}


@pytest.fixture(scope="module")
def recipes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    data = {"text": text(folder)}
    model = {"model": frozen_model(folder / "model"), "test_tokens": 64}
    return {
        "awd_lstm": changed(AWD, data=data, training={"epochs": 0.5}),
        "transformer": changed(GPT2, data=data, training={"epochs": 1}),
        "states": changed(STATES, data=data, model=model, training={"epochs": 0.5}),
    }


def without_watch(lines):
    return [line for line in lines if "entropy" not in line and "mean_row_share" not in line]


@pytest.mark.parametrize("kind", ["awd_lstm", "transformer", "states"])
def test_a_watched_run_is_the_run_that_is_not_and_resumes_to_the_same_lines(
    kind, recipes, tmp_path
):
    plain, watched = recipes[kind], {**recipes[kind], "watch": WATCH}
    trained(plain, tmp_path / "plain")
    trained(watched, tmp_path / "watched")
    assert (tmp_path / "plain/model.safetensors").read_bytes() == (
        tmp_path / "watched/model.safetensors"
    ).read_bytes()
    lines = metrics(tmp_path / "watched")
    assert without_watch(lines) == metrics(tmp_path / "plain")
    found = [line["step"] for line in lines if "entropy" in line]
    assert found[:3] == [1, 2, 4]
    assert all("top1" in line for line in lines if "entropy" in line)

    with pytest.raises(Killed):
        trained(watched, tmp_path / "killed", kill_after=5)
    trained(watched, tmp_path / "killed")
    assert metrics(tmp_path / "killed") == lines
    assert watch_report(tmp_path / "killed/metrics.jsonl").steps[0].effective_rank > 1


def test_a_recipe_without_the_table_is_kept_as_it_ever_was(recipes):
    content = recipe(recipes["transformer"]).to_dict()
    assert "watch" not in content
    with_table = recipe({**recipes["transformer"], "watch": WATCH})
    assert recipe(json.loads(json.dumps(with_table.to_dict()))) == with_table


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"score_every": 2}, "No option of .* is called 'score_every'"),
        ({"scores_every": 0}, "watch needs"),
        ({"limit": -1}, "watch needs"),
        ({"limit": 2.0}, "watch needs"),
    ],
)
def test_mistakes_in_the_table(recipes, table, message):
    with pytest.raises(WideneckError, match=message):
        recipe({**recipes["transformer"], "watch": table})
