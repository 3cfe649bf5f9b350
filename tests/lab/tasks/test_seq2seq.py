"""An encoder-decoder with its memory: trained, interrupted, read and made to write."""

from dataclasses import replace

import pytest
import torch
from transformers import Seq2SeqTrainingArguments

from lab.tasks.small_tasks import TINY, trial
from wideneck.errors import WideneckError
from wideneck.lab.tasks.encoder_decoder import Encoder, batched, trained_tokenizer
from wideneck.lab.tasks.pairs import Pair
from wideneck.lab.tasks.seq2seq import between_checkpoints, evenly
from wideneck.lab.tasks.trainer import steps
from wideneck.lab.tasks.views import OFF, with_memory


def weights(made):
    return {name: x.clone() for name, x in made.model.state_dict().items()}


def untold(share):
    pass


def test_equal_seeds_start_alike_whatever_the_objective():
    one, two, other = (
        trial(0, loss="cross_entropy"),
        trial(0, loss="trime", alpha=1.0),
        trial(1, loss="cross_entropy"),
    )
    start = weights(one)
    assert all(torch.equal(x, start[name]) for name, x in weights(two).items())
    assert not all(torch.equal(x, start[name]) for name, x in weights(other).items())


@pytest.mark.parametrize(
    ("num_steps", "killed", "begins"),
    [
        (5, 4, 4),  # in the first of all epochs, of 5 steps each: a checkpoint at every step
        (15, 9, 6),  # in the second of three: a checkpoint at the end of each
        (12, 12, 11),  # in the last, which is not a whole one
    ],
)
def test_an_interrupted_training_ends_as_one_that_was_not(num_steps, killed, begins, tmp_path):
    recipe = replace(TINY, num_steps=num_steps)
    whole, cut, again = (trial(alpha=1.0, recipe=recipe) for _ in range(3))
    whole.train(tmp_path / "whole", untold)

    def kill(share):
        if share >= killed / num_steps:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        cut.train(tmp_path / "cut", kill)
    shares = []
    again.train(tmp_path / "cut", shares.append)
    assert shares[0] == pytest.approx(begins / num_steps)
    for (name, a), b in zip(weights(whole).items(), weights(again).values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("num_steps", [10, 12])
def test_what_is_trained_is_not_trained_again(num_steps, tmp_path):
    recipe = replace(TINY, num_steps=num_steps)  # two epochs, and a part of a third
    made, again = trial(recipe=recipe), trial(recipe=recipe)
    made.train(tmp_path, untold)
    again.train(tmp_path, untold)
    for (name, a), b in zip(weights(made).items(), weights(again).values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(
    ("num_rows", "num_steps", "apart"), [(80, 10, 2), (80, 3, 1), (75, 11, 10), (41, 100, 18)]
)
def test_checkpoints_are_at_the_ends_of_epochs_where_there_are_several(num_rows, num_steps, apart):
    assert between_checkpoints(TINY, num_rows, num_steps) == apart


def test_another_precision_and_several_devices_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Seq2SeqTrainingArguments, "n_gpu", property(lambda self: 2))
    with pytest.raises(WideneckError, match="found 2 GPUs: start it without a launcher"):
        trial().train(tmp_path, untold)
    monkeypatch.undo()
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    with pytest.raises(WideneckError, match="asks for bf16: unset ACCELERATE_MIXED_PRECISION"):
        trial().train(tmp_path, untold)
    assert not list(tmp_path.iterdir())


def test_training_lowers_the_loss_and_moves_the_memory(tmp_path):
    made = trial(recipe=replace(TINY, num_steps=30))
    before, start = made.seen("valid"), weights(made)
    made.train(tmp_path, untold)
    after = made.seen("valid")
    assert after.nll[after.asked].mean() < 0.8 * before.nll[before.asked].mean()
    assert start["cache_memory.bias"] != weights(made)["cache_memory.bias"]


def test_a_lost_loss_ends_the_run_with_a_sentence(tmp_path):
    made = trial(recipe=replace(TINY, learning_rate=1e30))
    with pytest.raises(WideneckError, match="no longer finite at step"):
        made.train(tmp_path, untold)


def test_rows_are_the_log_probabilities_of_the_mixture_and_of_the_layer():
    made = trial(temperature=1.0, bias=0.0)
    full, alone = made.rows()
    assert full.shape == alone.shape == (50, len(made.encoder.tokenizer))
    for x in (full, alone):
        torch.testing.assert_close(x.exp().sum(1), torch.ones(50), atol=1e-5, rtol=0)
    seen = made.seen("test")
    target = seen.target[seen.asked][:50]
    nll = -alone.gather(1, target[:, None])[:, 0]
    torch.testing.assert_close(nll, seen.nll[seen.asked][:50], atol=1e-5, rtol=0)
    mixed = seen.likelihoods(replace(made.model.cache_memory.config))[0][seen.asked][:50]
    torch.testing.assert_close(-full.gather(1, target[:, None])[:, 0], mixed, atol=1e-5, rtol=0)
    with with_memory(made.model, OFF):
        torch.testing.assert_close(*made.rows(), atol=1e-5, rtol=0)


def test_a_memory_that_is_all_writes_words_of_the_source():
    made = trial(temperature=1.0, bias=50.0)
    for pair, text in zip(made.test, made.write(), strict=True):
        ids = made.encoder.tokenizer(text, add_special_tokens=False).input_ids
        assert set(ids) <= set(made.encoder.tokenizer(pair.source).input_ids)
    off = trial()
    with with_memory(off.model, OFF):
        plain = off.write()
    assert plain != made.write()


def test_statistics_count_the_targets_that_come_first():
    made = trial(temperature=1.0, bias=0.0)
    made.model.cache_memory.statistics.take(False)
    seen = made.seen("test")
    found = made.model.cache_memory.statistics.take(False)
    big = replace(TINY, num_rank_rows=10_000)
    made.recipe = big
    full, alone = made.rows()
    target = seen.target[seen.asked]
    assert found["accuracy"] == pytest.approx((full.argmax(1) == target).double().mean().item())
    assert found["accuracy_model_only"] == pytest.approx(
        (alone.argmax(1) == target).double().mean().item()
    )


def test_the_measures_of_references_are_those_of_truth():
    beside = trial().beside()
    assert set(beside["reference"].each["true"]) == {1.0}
    other = beside["another's reference"]
    assert set(other.each["well_formed"]) == {1.0}
    assert sum(other.each["true"]) == 0
    assert other.whole["bleu3"] < 0.9
    assert beside["reference"].whole["bleu3"] == pytest.approx(1.0)


def test_sentences_about_one_table_are_one_document():
    made = trial()
    tables = [pair.table for pair in made.test]
    for i, a in enumerate(tables):
        for j, b in enumerate(tables):
            assert (made.documents[i] == made.documents[j]) == (a is b)


def test_a_long_source_is_cut_and_counted_and_ends_as_every_text_does():
    pairs = [Pair("a b c d e f g h", "a b"), Pair("a", "b")]
    tokenizer = trained_tokenizer(pairs, 300)
    encoder = Encoder(tokenizer, 5, 3)
    assert encoder.num_cut({"test": pairs}) == {"test": 1}
    assert encoder.num_cut({"test": pairs[1:]}) == {"test": 0}
    short = Encoder(tokenizer, 5, 2)
    assert short.num_cut({"train": pairs, "test": pairs[1:]}) == {
        **{"train": 1, "test": 0},
        "targets of train": 1,
    }
    for example in encoder.pairs(pairs):
        for ids in example.values():
            assert ids[-1] == tokenizer.eos_token_id
            assert len(ids) <= 5
    batch = batched(encoder.pairs(pairs), tokenizer.pad_token_id)
    assert batch["attention_mask"].sum(1).tolist() == [5, 2]
    assert (batch["labels"] == -100).sum() == batch["labels"].numel() - 3 - 2


def test_documents_come_from_all_places():
    pairs = [Pair(str(i), "") for i in range(10)]
    assert [pair.source for pair in evenly(pairs, 4)] == ["0", "2", "5", "7"]
    assert evenly(pairs, 20) == pairs


def test_steps_are_given_or_follow_from_epochs():
    assert steps(TINY, 40) == 10
    assert steps(replace(TINY, num_steps=None, num_epochs=3), 40) == 15
