"""Finished runs read back, runs that start from others, and how long a run goes on."""

import json

import pytest
import torch
from safetensors.torch import load_file
from training_runs import AWD, GPT2, Killed, changed, metrics, text, trained

from wideneck.data import encode_corpus, read_corpus
from wideneck.errors import WideneckError
from wideneck.evaluation import static_perplexity
from wideneck.models.small.language_model import LanguageModel
from wideneck.training.folder import is_run
from wideneck.training.saved_run import load_run


@pytest.fixture
def content(tmp_path):
    return changed(AWD, data={"text": text(tmp_path)}) | {"head": {"name": "softmax"}}


@pytest.fixture
def run(content, tmp_path):
    """The folder of a run that was interrupted after an evaluation."""
    with pytest.raises(Killed):
        trained(content, tmp_path / "run", kill_after=12)
    return tmp_path / "run"


# Loading


def test_a_run_is_loaded_with_its_best_weights(content, tmp_path):
    result = trained(content, tmp_path / "run")
    before = torch.get_rng_state()
    saved = load_run(tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), before)
    assert isinstance(saved.model, LanguageModel)
    assert not saved.model.training
    assert is_run(tmp_path / "run")
    assert len(saved.tokenizer) == result["vocab_size"]
    stored = load_file(tmp_path / "run" / "model.safetensors")
    for name, parameter in saved.model.named_parameters():
        assert torch.equal(parameter, stored[name])


def test_a_run_put_together_from_two_is_not_loaded(run, tmp_path):
    (run / "vocabulary.txt").write_text("<eos>\n<unk>\nother\n")
    with pytest.raises(WideneckError, match=r"vocabulary.txt is not the vocabulary that"):
        load_run(run)


def test_a_run_without_weights_is_not_loaded(content, tmp_path):
    with pytest.raises(Killed):
        trained(content, tmp_path / "run", kill_after=1)
    with pytest.raises(WideneckError, match="has no weights yet"):
        load_run(tmp_path / "run")
    assert not is_run(tmp_path)
    with pytest.raises(WideneckError, match=r"recipe.json cannot be read"):
        load_run(tmp_path)


# Starting from another run


def test_a_run_starts_from_the_weights_of_another(run, content, tmp_path):
    again = changed(
        content, initial=str(run), optimizer={"learning_rate": 1e-9, "average_from": 9.0}
    )
    result = trained(changed(again, training={"epochs": 0.1}), tmp_path / "fine")
    best = min(line["valid_loss"] for line in metrics(run) if "valid_loss" in line)
    assert result["valid_loss"] == pytest.approx(best, rel=1e-5)


def test_once_begun_it_does_not_need_the_other_again(run, content, tmp_path):
    again = changed(content, initial=str(run), training={"epochs": 2})
    with pytest.raises(Killed):
        trained(again, tmp_path / "fine", kill_after=12)
    run.rename(tmp_path / "elsewhere")
    trained(again, tmp_path / "fine")


def test_the_test_text_is_read_in_rows_of_its_own(content, tmp_path):
    content = changed(content, training={"epochs": 0.2, "test_batch_size": 1})
    found = trained(content, tmp_path / "run")
    saved = load_run(tmp_path / "run")
    ids = encode_corpus(read_corpus(saved.recipe.data.text), saved.recipe.data).test.ids
    assert static_perplexity(saved.model, ids, batch_size=1).loss == pytest.approx(
        found["test_loss"], rel=1e-6
    )


def test_it_does_not_start_from_another_vocabulary_or_from_nothing(run, content, tmp_path):
    with pytest.raises(WideneckError, match="another vocabulary than that of"):
        trained(changed(content, initial=str(run), data={"vocab_size": 20}), tmp_path / "a")
    with pytest.raises(WideneckError, match="There is no file nowhere"):
        trained(changed(content, initial="nowhere"), tmp_path / "b")


# How long it goes on


def test_patience_stops_early(content, tmp_path):
    content = changed(
        content,
        optimizer={"learning_rate": 1e-9, "average_from": 99.0},
        training={"epochs": 50, "evaluate_every": 0.1, "patience": 3},
    )
    result = trained(changed(content, training={"checkpoint_every": 300}), tmp_path / "run")
    losses = result["valid_losses"]
    assert len(losses) - result["best_evaluation"] == 3
    assert result["valid_loss"] == min(losses)
    assert result["epochs"] < 10


def test_evaluation_takes_so_many_tokens_of_each_split(content, tmp_path):
    content = changed(content, training={"epochs": 0.2})
    whole = trained(content, tmp_path / "whole")
    part = trained(changed(content, training={"evaluation_tokens": 40}), tmp_path / "part")
    assert part["valid_loss"] != whole["valid_loss"]
    assert part["test_loss"] != whole["test_loss"]
    saved = load_run(tmp_path / "part")
    ids = encode_corpus(read_corpus(saved.recipe.data.text), saved.recipe.data).valid.ids
    found = static_perplexity(saved.model, ids[:40], batch_size=10)
    assert found.loss == pytest.approx(part["valid_loss"], rel=1e-6)


def test_a_run_takes_a_step_however_short_it_is(content, tmp_path):
    assert trained(changed(content, training={"epochs": 1e-12}), tmp_path / "run")["steps"] == 1


def test_fractions_of_an_epoch_end_at_the_first_batch_beyond(tmp_path):
    content = changed(
        GPT2, data={"text": text(tmp_path)}, training={"epochs": 0.3, "evaluate_every": 0.1}
    )
    result = trained(content, tmp_path / "run")
    assert result["steps"] == 3  # of 10 an epoch
    assert len(result["valid_losses"]) == 3


@pytest.mark.parametrize(("kind", "key"), [(AWD, "hidden_size"), (GPT2, "n_embd")])
def test_a_recipe_of_a_larger_model_is_refused_before_it_is_allocated(tmp_path, kind, key):
    with pytest.raises(Killed):
        trained(changed(kind, data={"text": text(tmp_path)}), tmp_path / "run", kill_after=12)
    load_run(tmp_path / "run")
    path = tmp_path / "run" / "recipe.json"
    recipe = json.loads(path.read_text())
    model = recipe["model"]
    (model if key in model else model["options"])[key] = 4096
    path.write_text(json.dumps(recipe))
    with pytest.raises(WideneckError, match=r"numbers, and the recipe makes a model of [\d,]+ or"):
        load_run(tmp_path / "run")
