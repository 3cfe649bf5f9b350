"""One run of the sigsoftmax reproduction, against its model read again from the folder."""

import json
import math
from dataclasses import replace

import pytest
import torch

from wideneck import config as c
from wideneck.audits.output.head_ranks import log_prob_ranks
from wideneck.data import encode_corpus, read_corpus
from wideneck.data.config import Data
from wideneck.lab.registry import Request
from wideneck.lab.sigsoftmax import one_run
from wideneck.lab.sigsoftmax import reproduction as module
from wideneck.lab.sigsoftmax.one_run import train_and_measure
from wideneck.models.small.config import AwdLstm
from wideneck.training.folder import METRICS
from wideneck.training.optimizers import AdamW
from wideneck.training.recipe import Recipe, Schedule
from wideneck.training.saved_run import load_run

CONTEXTS = 40


def write_splits(folder, splits=("train", "valid", "test")):
    """Three splits that are not equally hard."""
    folder.mkdir()
    words = {
        "train": [f"word{(7 * i) % 41} and" for i in range(300)],
        "valid": [f"word{(7 * i) % 41} and" for i in range(80)],
        "test": [f"word{(i * i) % 41} word{i % 3}" for i in range(90)],
    }
    for split in splits:
        (folder / f"{split}.txt").write_text("\n".join(words[split]) + "\n")
    return str(folder)


def recipe_on(text) -> Recipe:
    return Recipe(
        model=AwdLstm(embedding_size=8, hidden_size=12, last_size=10),
        head=c.Mixture(num_components=2, activation=c.Sigsoftmax()),
        data=Data(text=text),
        optimizer=AdamW(learning_rate=1e-2),
        training=Schedule(
            epochs=1.5, batch_size=4, segment=8, evaluate_every=0.5, evaluation_batch_size=1
        ),
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    place = tmp_path_factory.mktemp("sigsoftmax")
    recipe = recipe_on(write_splits(place / "text"))
    found = train_and_measure("MoSS", 3, recipe, place / "run", CONTEXTS, lambda share: None)
    corpus = encode_corpus(read_corpus(recipe.data.text), recipe.data)
    return found, load_run(place / "run").model.eval(), corpus, place


@torch.no_grad()
def hidden_of(model, ids):
    """The whole text as one row: an LSTM carries its state, whatever the pieces."""
    return model.backbone(ids[None, :-1]).hidden[0]


@torch.no_grad()
def loss_of(model, ids):
    log_probs = model.head.log_probs(hidden_of(model, ids)).double()
    return -log_probs.gather(1, ids[1:, None]).mean().item()


def test_each_loss_is_that_of_its_own_split(trained):
    found, model, corpus, _ = trained
    losses = {
        split: loss_of(model, getattr(corpus, split).ids) for split in ("train", "valid", "test")
    }
    assert abs(losses["valid"] - losses["test"]) > 0.2
    assert found.valid_loss == pytest.approx(losses["valid"], rel=1e-5)
    assert found.test_loss == pytest.approx(losses["test"], rel=1e-5)
    assert found.test_perplexity == pytest.approx(math.exp(losses["test"]), rel=1e-4)
    assert found.test_perplexity == math.exp(found.test_loss)


def test_ranks_and_scores_are_of_contexts_spread_over_the_test_text(trained):
    found, model, corpus, _ = trained
    hidden = hidden_of(model, corpus.test.ids)
    places = [round(k * (len(hidden) - 1) / (CONTEXTS - 1)) for k in range(CONTEXTS)]
    expected = log_prob_ranks(model.head, hidden[places], num_contexts=CONTEXTS)
    assert (found.rank, found.rank_bound) == (expected.press, expected.bound)
    assert found.num_contexts == CONTEXTS
    for name in ("effective_1e3", "effective_1e4", "effective_1e5"):
        assert getattr(found, name) == getattr(expected, name), name
    for name in ("mean_logit", "sd_logit", "share_curved"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-4), name
    assert found.singular_values == pytest.approx(expected.singular_values, rel=1e-3, abs=1e-4)


def test_each_effective_rank_keeps_its_own_name(trained, monkeypatch):
    """In so small a run they are equal, so they are made to differ; the run is finished."""
    real, (found, _, _, place) = one_run.log_prob_ranks, trained
    different = {"effective_1e3": 3, "effective_1e4": 5, "effective_1e5": 9}
    monkeypatch.setattr(
        one_run, "log_prob_ranks", lambda *a, **b: replace(real(*a, **b), **different)
    )
    recipe = recipe_on(str(place / "text"))
    again = train_and_measure("MoSS", 3, recipe, place / "run", CONTEXTS, lambda share: None)
    assert {name: getattr(again, name) for name in different} == different
    assert again.test_loss == found.test_loss


def test_the_training_loss_is_the_last_that_was_written(trained):
    found, _, _, place = trained
    lines = [json.loads(line) for line in (place / "run" / METRICS).read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[0] > losses[-1] + 0.05  # it learns
    assert found.train_loss == losses[-1]
    assert (found.arm, found.seed) == ("MoSS", 3)


def test_without_a_test_split_the_validation_loss_stands_in(tmp_path):
    recipe = recipe_on(write_splits(tmp_path / "text", ("train", "valid")))
    schedule = replace(recipe.training, epochs=0.2, evaluate_every=0.2)
    recipe = replace(recipe, training=schedule)
    found = train_and_measure("MoSS", 0, recipe, tmp_path / "run", CONTEXTS, lambda share: None)
    assert found.test_loss == found.valid_loss


@pytest.mark.parametrize("scale", ["small", "paper"])
def test_jobs_have_the_seeds_that_were_asked_for(tmp_path, monkeypatch, scale):
    """Counted from the recipe's own; only at the paper's scale are the contexts the first."""
    recipes = module.recipes(module.SCALES["paper"]["PTB"], None, {"vocab_size": 10_000})
    of_arms = {arm: recipe.to_dict() for arm, recipe in recipes.items()}
    settings = {"scale": scale, "num_contexts": 17, "recipes": of_arms}
    monkeypatch.setattr(module, "_settings", lambda *_: (settings, {}))
    given = []

    def all_runs(jobs, *_):
        makes = [job.make for job in jobs.values()]
        given.extend((*make.args, make.keywords["contexts_are_first"]) for make in makes)
        return []

    monkeypatch.setattr(module, "all_runs", all_runs)
    monkeypatch.setattr(module, "known_rank", lambda **_: [])
    monkeypatch.setattr(module, "reproduction", lambda *_: None)
    request = Request(paper="sigsoftmax", scale=scale, num_seeds=2, out=tmp_path / "out")
    module.reproduce(request, lambda *_: None)
    assert {arm for arm, *_ in given} == recipes.keys()
    for arm, seed, recipe, _, num_contexts, contexts_are_first in given:
        assert recipe == replace(recipes[arm], seed=recipes[arm].seed + seed)
        assert contexts_are_first == (scale == "paper")
        assert num_contexts == 17
    assert [recipe.seed for arm, _, recipe, *_ in given if arm == "softmax"] == [141, 142]
    seeds = [seed for _, seed, *_ in given]
    assert seeds == sorted(seeds)
    assert set(seeds) == {0, 1}
