"""The Trainer of transformers on a model with a memory."""

import math

import pytest
import torch
import transformers as tr
from remembering import model_of, remembering
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
        assert entry["loss"] == pytest.approx(entry["nll"] + 0.5 * entry["ranking_loss"], rel=1e-3)
        assert 0 < entry["cache_mass"] < 1

    metrics = trainer.evaluate()

    last = trainer.state.log_history[-1]
    assert {f"eval_{name}" for name in names} <= last.keys()
    model, parts = trainer.model.eval(), []
    with torch.no_grad():
        for part in torch.arange(len(Rows())).split(trainer.args.eval_batch_size):
            rows = [Rows()[int(i)] for i in part]
            batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
            count = (batch["labels"][:, 1:] != -100).sum().item()
            parts.append((model(**batch).loss.item(), len(rows), count))
    assert len(parts) > 1
    # The Trainer's is over rows, ours over targets.
    by_row = sum(x * rows for x, rows, _ in parts) / len(Rows())
    by_target = sum(x * n for x, _, n in parts) / sum(n for _, _, n in parts)
    assert metrics["eval_loss"] == pytest.approx(by_row, rel=1e-5)
    assert last["eval_nll"] + 0.5 * last["eval_ranking_loss"] == pytest.approx(by_target, rel=1e-5)
    assert trainer.predict(Rows()).predictions.shape == (4 * NUM_STEPS, 12, 96)


@pytest.mark.parametrize("options", [{}, {"mixture": "linear"}, {"scores": "logits", "bias": 0.0}])
def test_accuracies_are_those_of_the_predictions(options):
    """Of the mixture, of the model before it had a memory, and of the memory by loops."""
    model, plain, hidden = remembering("llama", **options), model_of("llama"), []
    for i in range(0, 8, 2):
        batch = {k: v[None] for k, v in Rows()[i].items()}
        ids, target = batch["input_ids"][0], batch["labels"][0, 1:]
        hook = model.lm_head.register_forward_pre_hook(lambda _, args: hidden.append(args[0][0]))
        log_p = model(**batch).logits[0, :-1]
        hook.remove()
        states, own = hidden[-1], []
        for t in range(len(target)):
            sums = {}  # of what each token of the memory has
            for j in range(t):
                s = (states[t] @ states[j] / states.shape[-1] ** 0.5 / 0.5).item()
                sums[ids[j + 1].item()] = sums.get(ids[j + 1].item(), 0.0) + math.exp(s)
            own.append(max(sums, key=sums.get) if sums else -1)
        kept = target != -100
        found = model.cache_memory.statistics.take(False)
        for name, predicted in (
            ("accuracy", log_p.argmax(-1)),
            ("accuracy_model_only", plain(ids[None]).logits[0, :-1].argmax(-1)),
            ("accuracy_cache_only", torch.tensor(own)),
        ):
            want = (predicted == target)[kept].double().mean().item()
            assert found[name] == pytest.approx(want), name
    assert model.cache_memory.statistics.take(False) == {}


def test_training_moves_the_memory(tmp_path):
    model = remembering("llama")
    before = [p.clone() for p in model.cache_memory.parameters()]
    trained(tmp_path, model=model)
    assert before
    for old, new in zip(before, model.cache_memory.parameters(), strict=True):
        assert not torch.equal(old, new)


def test_logging_a_model_without_a_memory_is_refused(tmp_path):
    model = tr.LlamaForCausalLM(remembering("llama").config)
    with pytest.raises(WideneckError, match=r"LogMemory logs a memory.*attach_memory"):
        trained(tmp_path, model=model)
