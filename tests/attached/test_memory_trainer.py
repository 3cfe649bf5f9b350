"""The Trainer of transformers on a model with a memory."""

import pytest
import torch
import transformers as tr
from remembering import remembering
from trainer_arguments import sgd

import wideneck as wn
from wideneck.errors import WideneckError

NUM_STEPS = 3


class Rows(torch.utils.data.Dataset):
    """Sequences of 12 tokens, of few kinds so that they repeat; some weigh less than others."""

    def __len__(self):
        return 4 * NUM_STEPS

    def __getitem__(self, i):
        ids = torch.randint(3, 9, (12,), generator=torch.Generator().manual_seed(i))
        labels = ids.clone()
        labels[: i % 9] = -100
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def trained(folder, name="llama", *, batch=4, accumulate=1, model=None, **options):
    model = remembering(name, **options) if model is None else model
    arguments = sgd(folder, batch, accumulate, NUM_STEPS, learning_rate=0.05)
    trainer = tr.Trainer(
        model,
        arguments,
        train_dataset=Rows(),
        eval_dataset=Rows(),
        callbacks=[wn.LogMemory()],
    )
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    return logs, trainer


@pytest.mark.parametrize("name", ["llama", "t5"])
@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"reduction": "sum", "alpha": 0.1}])
def test_accumulated_gradients_are_those_of_the_whole_batch(name, options, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.nn.Dropout, "forward", lambda self, x: x)
    whole, first = trained(tmp_path, name, batch=4, accumulate=1, **options)
    parts, second = trained(tmp_path, name, batch=1, accumulate=4, **options)

    for a, b in zip(whole, parts, strict=True):
        for part in ("loss", "nll", "nll_model_only", "cache_mass"):
            assert a[part] == pytest.approx(b[part], rel=1e-4), part
    for ours, theirs in zip(second.model.parameters(), first.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_mean_over_pairs_counts_by_its_share_of_the_targets():
    """Two micro-batches of 10 and 4 targets, told that the step has 14."""
    model = remembering("llama", torch.float64).train()
    batches = [{k: v[None] for k, v in Rows()[i].items()} for i in (2, 8)]
    alone = [model(**batch).loss for batch in batches]

    parts = [model(**batch, num_items_in_batch=torch.tensor(14)).loss for batch in batches]

    torch.testing.assert_close(sum(parts), (10 * alone[0] + 4 * alone[1]) / 14)


def test_every_part_is_logged_in_training_and_evaluation(tmp_path):
    logs, trainer = trained(tmp_path, alpha=0.5)
    names = {"nll", "nll_model_only", "ranking_loss", "cache_mass"}
    names |= {"accuracy", "accuracy_model_only", "accuracy_cache_only"}
    for entry in logs:
        assert names <= entry.keys()
        assert entry["loss"] == pytest.approx(entry["nll"] + 0.5 * entry["ranking_loss"], rel=1e-5)

    metrics = trainer.evaluate()

    last = trainer.state.log_history[-1]
    assert {f"eval_{name}" for name in names} <= last.keys()
    model, parts, losses = trainer.model.eval(), [], []
    for rows in (range(8), range(8, 12)):  # eval_batch_size is 8
        batch = {key: torch.stack([Rows()[i][key] for i in rows]) for key in Rows()[0]}
        with torch.no_grad():
            losses.append(model(**batch).loss.item())
        count = int((batch["labels"][:, 1:] != -100).sum())
        parts.append((count, model.cache_memory.statistics.take(False)))
    # A mean of the batches' means by their rows, and means over targets by their targets.
    assert metrics["eval_loss"] == pytest.approx((8 * losses[0] + 4 * losses[1]) / 12, rel=1e-5)
    for name in ("nll", "nll_model_only", "cache_mass", "accuracy"):
        want = sum(count * part[name] for count, part in parts) / sum(c for c, _ in parts)
        assert last[f"eval_{name}"] == pytest.approx(want, rel=1e-5), name
    assert trainer.predict(Rows()).predictions.shape == (4 * NUM_STEPS, 12, 96)


def test_accuracies_are_those_of_the_predictions(tmp_path):
    model = remembering("llama")
    batch = {k: v[None] for k, v in Rows()[0].items()}
    result = model(**batch)
    target = batch["labels"][:, 1:]

    found = model.cache_memory.statistics.take(False)

    want = (result.logits[:, :-1].argmax(-1) == target).float().mean().item()
    assert found["accuracy"] == pytest.approx(want)
    assert model.cache_memory.statistics.take(False) == {}


def test_training_moves_the_memory(tmp_path):
    model = remembering("llama")
    before = [p.clone() for p in model.cache_memory.parameters()]
    trained(tmp_path, model=model)
    for old, new in zip(before, model.cache_memory.parameters(), strict=True):
        assert not torch.equal(old, new)


def test_logging_a_model_without_a_memory_is_refused(tmp_path):
    model = tr.LlamaForCausalLM(remembering("llama").config)
    with pytest.raises(WideneckError, match=r"LogMemory logs a memory.*attach_memory"):
        trained(tmp_path, model=model)
