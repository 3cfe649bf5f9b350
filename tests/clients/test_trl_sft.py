"""SFTTrainer with its defaults: the loss is the head's, and every part of the head is trained."""

import copy

import pytest
import torch
from datasets import Dataset

import wideneck as wn
from clients.trl_small import (
    FUSED,
    HEADS,
    arguments,
    built,
    gradients,
    log_probs,
    stepped,
    text,
    tokenizer,
    with_head,
    with_memory,
)

CLOSE = {"rtol": 1e-5, "atol": 1e-6}
NUM_ROWS = 4


def rows():
    """Sequences of a prompt, which is masked, and completions of unequal length."""
    given = [
        {"prompt": text(i, 3) + " ", "completion": text(i + 9, 2 + i)} for i in range(NUM_ROWS)
    ]
    return Dataset.from_list(given)


def trainer_of(model, folder, **options):
    options = {"gradient_accumulation_steps": 2, "logging_steps": 1, **options}
    return built(
        "SFTTrainer",
        model=model,
        args=arguments("SFTConfig", folder, **options),
        train_dataset=rows(),
    )


def batch():
    """All rows padded on the right, and their labels."""
    encoded = [(tokenizer()(r["prompt"]).input_ids, r["completion"]) for r in rows()]
    encoded = [(p, [*tokenizer()(c).input_ids, tokenizer().eos_token_id]) for p, c in encoded]
    width = max(len(p) + len(c) for p, c in encoded)
    ids, mask, labels = (torch.full((NUM_ROWS, width), fill) for fill in (0, 0, -100))
    for i, (prompt, completion) in enumerate(encoded):
        length = len(prompt) + len(completion)
        ids[i, :length] = torch.tensor(prompt + completion)
        labels[i, len(prompt) : length] = torch.tensor(completion)
        mask[i, :length] = 1
    return ids, mask, labels


def head_nll(model):
    """The head's loss over all targets of the step, without a trainer."""
    ids, mask, labels = batch()
    hidden = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state[:, :-1]
    return model.get_output_embeddings().nll(hidden, labels[:, 1:], reduction="mean")


def own_loss(model):
    """The model's own: the mean over two micro-batches, weighed by their targets."""
    ids, mask, labels = batch()
    items = (labels != -100).sum()
    halves = (slice(0, 2), slice(2, 4))
    return sum(
        model(
            input_ids=ids[half],
            attention_mask=mask[half],
            labels=labels[half],
            num_items_in_batch=items,
        ).loss
        for half in halves
    )


def check_step(trainer, expected):
    model = trainer.model
    twin = copy.deepcopy(model)
    twin.asked_by_trl = None
    loss = expected(twin.train())
    wanted = gradients(twin, loss)
    ids, mask, labels = batch()
    dense = log_probs(twin.double().eval(), ids, mask)[:, :-1]
    found = stepped(trainer)
    for name, gradient in wanted.items():
        torch.testing.assert_close(
            found[name], gradient, msg=lambda m, n=name: f"{n}: {m}", **CLOSE
        )
    logged = trainer.state.log_history[0]
    assert logged["loss"] == pytest.approx(loss.item(), abs=1e-6)
    kept = labels[:, 1:] != -100
    entropy = -(dense.exp() * dense).sum(-1)[kept]
    right = (dense.argmax(-1) == labels[:, 1:])[kept]
    halves = kept[:2].sum(), kept[2:].sum()
    parts = [x.double().split([*map(int, halves)]) for x in (entropy, right)]
    wanted = [sum(part.mean().item() for part in x) / 2 for x in parts]  # of micro-batches
    assert logged["entropy"] == pytest.approx(wanted[0], abs=1e-5)
    assert logged["mean_token_accuracy"] == pytest.approx(wanted[1], abs=1e-6)
    return found


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("head", HEADS)
def test_default_step_is_that_of_the_heads_loss(shows, tmp_path, head, tied):
    trainer = trainer_of(with_head(head, tied), tmp_path)
    found = check_step(trainer, head_nll)
    for name, gradient in found.items():
        if "activation" in name or "projections" in name:
            assert gradient.abs().max() > 1e-6, name
    shows("SFTTrainer, its default loss", "right")


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_default_step_with_a_memory_is_that_of_its_loss(shows, tmp_path, tied):
    check_step(trainer_of(with_memory(tied), tmp_path), own_loss)
    shows("SFTTrainer, a memory", "right")


def test_a_memory_without_a_ranking_loss(tmp_path):
    check_step(trainer_of(with_memory(alpha=0.0), tmp_path), own_loss)


@pytest.mark.skipif(FUSED, reason="from TRL 1.15 on it is the default, which the tests above run")
@pytest.mark.parametrize("model", [with_head, with_memory])
def test_a_loss_with_metrics_from_the_logits(shows, tmp_path, model):
    made = model("moss") if model is with_head else model()
    check_step(trainer_of(made, tmp_path, loss_type="nll"), own_loss)
    shows("SFTTrainer, loss_type='nll'", "right")


@pytest.mark.parametrize("kind", ["moss", "memory"])
def test_default_step_on_a_saved_folder(shows, tmp_path, kind):
    model = with_memory() if kind == "memory" else with_head(kind)
    model.save_pretrained(tmp_path / "model")
    trainer = trainer_of(str(tmp_path / "model"), tmp_path)
    for ours, saved in zip(trainer.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, saved, rtol=0, atol=0)
    check_step(trainer, own_loss)
    shows("SFTTrainer on a folder of save_pretrained", "right")


def test_fused_returns_the_trainer_and_changes_nothing(tmp_path):
    trainer = trainer_of(with_head("moss"), tmp_path)
    assert wn.trl.fused(trainer) is trainer
    check_step(trainer, head_nll)


def test_evaluation_is_the_heads_loss(tmp_path):
    model = with_head("moss")
    trainer = trainer_of(model, tmp_path, eval_strategy="no", per_device_eval_batch_size=NUM_ROWS)
    loss = trainer.evaluate(trainer.train_dataset)["eval_loss"]
    assert loss == pytest.approx(head_nll(copy.deepcopy(model)).item(), abs=1e-6)
