"""The Seq2SeqTrainer of transformers on encoder-decoders with a memory."""

import pytest
import torch
import transformers as tr
from pairs import (
    NUM_STEPS,
    Pairs,
    collated,
    evaluated,
    logs_of,
    trained,
    trainer_of,
    without_dropout,
)
from remembering import ENCODER_DECODERS, remembering

import wideneck as wn
from wideneck.errors import WideneckError

GENERATING = {"predict_with_generate": True, "generation_max_length": 8}
LIKELIHOODS = [{"alpha": 0.0}, {"reduction": "sum", "alpha": 0.1}]


def assert_same_parameters(ours, theirs, **tolerance):
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, msg=lambda told, name=name: f"{name}: {told}", **tolerance)


@pytest.mark.parametrize("name", ENCODER_DECODERS)
@pytest.mark.parametrize("memory", LIKELIHOODS, ids=str)
def test_accumulated_gradients_are_those_of_the_whole_batch(name, memory, tmp_path, monkeypatch):
    without_dropout(monkeypatch)
    whole, first = trained(tmp_path, name, memory=memory, batch=4, accumulate=1)
    parts, second = trained(tmp_path, name, memory=memory, batch=1, accumulate=4, tells=False)

    assert len(whole) == NUM_STEPS
    for a, b in zip(whole, parts, strict=True):
        for part in ("loss", "nll", "nll_model_only", "ranking_loss", "cache_mass"):
            assert a[part] == pytest.approx(b[part], rel=1e-4), part
    assert_same_parameters(second.model, first.model, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_evaluation_generates_what_each_source_gives_alone(name, num_beams, tmp_path):
    model, beams = remembering(name), {"generation_num_beams": num_beams}
    trainer = trainer_of(tmp_path, model, tells=num_beams > 1, **GENERATING, **beams)

    found = trainer.predict(Pairs())

    for i, tokens in enumerate(found.predictions.tolist()):
        source = torch.tensor([Pairs()[i]["input_ids"]])
        own = model.generate(source, max_length=8, num_beams=num_beams)[0].tolist()
        assert tokens[: len(own)] == own
        assert set(tokens[len(own) :]) <= {2}
    assert len({tuple(tokens) for tokens in found.predictions.tolist()}) > 3
    with torch.no_grad():
        losses = [model(**batch).loss.item() for batch in evaluated()]
    assert found.metrics["test_loss"] == pytest.approx(sum(losses) / len(losses))


def test_the_parts_of_an_evaluation_that_generates_are_logged(tmp_path):
    trainer = trainer_of(tmp_path, remembering("bart", alpha=0.5), **GENERATING)
    trainer.evaluate()
    last, parts = trainer.state.log_history[-1], []
    for batch in evaluated():
        with torch.no_grad():
            parts.append((trainer.model(**batch).loss.item(), (batch["labels"] != -100).sum()))
    mean = sum(loss * count for loss, count in parts) / sum(count for _, count in parts)
    assert last["eval_nll"] + 0.5 * last["eval_ranking_loss"] == pytest.approx(mean.item())


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_a_run_that_was_stopped_goes_on_bit_for_bit(name, tmp_path):
    """With dropout, AdamW and a warm-up that ends after the stop."""
    options = {"optim": "adamw_torch", "save_strategy": "steps", "save_steps": 2, "num_steps": 5}
    memory = {"warmup_batches": 3}

    def model():
        made = remembering(name, **memory)
        for part in made.modules():
            if isinstance(part, torch.nn.Dropout):  # T5's; the others have 0.1
                part.p = 0.1
        return made

    undisturbed = trainer_of(tmp_path, model(), **options)
    undisturbed.train()
    resumed = trainer_of(tmp_path, model(), **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))

    assert_same_parameters(resumed.model, undisturbed.model, rtol=0, atol=0)
    for ours, theirs in zip(logs_of(resumed)[2:], logs_of(undisturbed)[2:], strict=True):
        for part in ("loss", "nll", "ranking_loss", "cache_mass", "accuracy"):
            assert ours[part] == theirs[part], part
    assert resumed.model.cache_memory.num_batches.item() == 5
    batch = collated([0, 1, 2])
    loaded = wn.load(tmp_path / "checkpoint-5")
    assert torch.equal(loaded.eval()(**batch).logits, resumed.model.eval()(**batch).logits)


def smoothed(model, batch, smoothing=0.1):
    """The mixture's cross-entropy with targets that a uniform distribution is mixed into."""
    labels = batch["labels"]
    with torch.no_grad():
        log_p = model(**batch).logits.double()
    kept, target = labels != -100, labels.clamp(min=0)[..., None]
    each = -(1 - smoothing) * log_p.gather(-1, target)[..., 0] - smoothing * log_p.mean(-1)
    return each[kept].mean().item()


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_smoothed_labels_train_the_likelihood_of_the_mixture(name, tmp_path, monkeypatch):
    without_dropout(monkeypatch)
    options = {"memory": {"alpha": 0.0}, "label_smoothing_factor": 0.1}
    whole, first = trained(tmp_path, name, batch=12, **options)
    parts, second = trained(tmp_path, name, batch=3, accumulate=4, **options, **GENERATING)

    assert "nll" not in whole[0]  # the model has seen no labels
    assert whole[0]["loss"] == pytest.approx(
        smoothed(remembering(name), collated(range(12))), rel=1e-5
    )
    for a, b in zip(whole, parts, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
    assert_same_parameters(second.model, first.model, rtol=1e-4, atol=1e-5)
    losses = [smoothed(first.model.eval(), batch) for batch in evaluated()]
    for trainer in (first, second):  # the second one generates, too
        mean = sum(losses) / len(losses)
        assert trainer.evaluate()["eval_loss"] == pytest.approx(mean, rel=1e-4)


@pytest.mark.parametrize("name", ["bart", "llama"])
@pytest.mark.parametrize(
    "memory",
    [{}, {"alpha": 0.0, "loss": "cross_entropy"}, {"alpha": 0.0, "warmup_batches": 2}],
    ids=str,
)
def test_smoothed_labels_do_not_go_with_a_loss_that_is_more_than_a_likelihood(
    name, memory, tmp_path
):
    with pytest.raises(WideneckError, match=r"ranking loss.*leave them out, or attach .* alpha=0"):
        trained(tmp_path, name, memory=memory, label_smoothing_factor=0.1)


def test_a_loss_of_somebody_elses_does_not_go_with_it_either(tmp_path):
    trainer = trainer_of(tmp_path, remembering("bart"))
    trainer.compute_loss_func = lambda outputs, labels, **kwargs: outputs.logits.mean()
    with pytest.raises(WideneckError, match="compute_loss_func keep the labels from this Bart"):
        trainer.train()


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_smoothed_labels_need_a_collator_that_makes_the_decoders_input(name, tmp_path):
    """BART and mBART would else read the source in its place, and say nothing."""
    options = {"memory": {"alpha": 0.0}, "label_smoothing_factor": 0.1, "tells": False}
    with pytest.raises(WideneckError, match=r"no input.*DataCollatorForSeq2Seq\(tokenizer, model"):
        trained(tmp_path, name, **options)


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_packed_rows_are_refused(name, tmp_path):
    """A row of several sources has one encoder's pass, and a decoder that no border tells apart."""
    collator = tr.DataCollatorWithFlattening(return_tensors="pt")
    with pytest.raises(WideneckError, match="knows no position_ids: give each document a row"):
        trained(tmp_path, name, collator=collator)
