"""The Trainer of transformers on a model with a head."""

import pytest
import torch
import transformers as tr
from attachable import attached, token_ids
from trainer_arguments import sgd

NUM_STEPS = 3


class Rows(torch.utils.data.Dataset):
    """Sequences of 12 tokens of which ever more are ignored, so that batches weigh unequally."""

    def __len__(self):
        return 4 * NUM_STEPS

    def __getitem__(self, i):
        ids = token_ids(i, (12,))
        labels = ids.clone()
        labels[: i % 9] = -100
        return {"input_ids": ids, "labels": labels}


def trained(folder, case, head, *, batch, accumulate, **options):
    torch.manual_seed(1)
    model = attached(case, head)
    arguments = sgd(folder, batch, accumulate, NUM_STEPS, learning_rate=0.1, **options)
    trainer = tr.Trainer(model, arguments, train_dataset=Rows(), eval_dataset=Rows())
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return losses, trainer


@pytest.mark.parametrize(("case", "head"), [("llama-tied", "moss"), ("gpt2", "sigsoftmax")])
def test_accumulated_gradients_are_those_of_the_whole_batch(case, head, tmp_path, monkeypatch):
    # GPT-2 drops out; both runs would draw other masks.
    monkeypatch.setattr(torch.nn.Dropout, "forward", lambda self, x: x)
    options = {} if case != "gpt2" else {"seed": 1}
    whole, first = trained(tmp_path, case, head, batch=4, accumulate=1, **options)
    parts, second = trained(tmp_path, case, head, batch=1, accumulate=4, **options)

    assert len(whole) == NUM_STEPS
    assert whole == pytest.approx(parts, rel=1e-4)
    for ours, theirs in zip(second.model.parameters(), first.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_the_trainer_evaluates_with_and_without_predictions(tmp_path):
    _, trainer = trained(tmp_path, "llama", "moss", batch=4, accumulate=1)
    with_predictions = trainer.evaluate()["eval_loss"]
    assert trainer.predict(Rows()).predictions.shape == (4 * NUM_STEPS, 12, 96)
    trainer.args.prediction_loss_only = True
    assert trainer.evaluate()["eval_loss"] == pytest.approx(with_predictions)


def test_labels_can_be_smoothed(tmp_path):
    losses, trainer = trained(
        tmp_path, "llama", "sigsoftmax", batch=4, accumulate=1, label_smoothing_factor=0.1
    )
    assert len(losses) == NUM_STEPS
    rows, model = [Rows()[i] for i in range(12)], trainer.model.eval()
    ids, labels = (torch.stack([row[key] for row in rows]) for key in ("input_ids", "labels"))
    with torch.no_grad():
        log_probs = model(input_ids=ids).logits[:, :-1].double()
    kept = labels[:, 1:] != -100
    target = labels[:, 1:].clamp(min=0)[..., None]
    each = -0.9 * log_probs.gather(-1, target)[..., 0] - 0.1 * log_probs.mean(-1)
    batches = [each[i : i + 8][kept[i : i + 8]].mean() for i in (0, 8)]  # eval_batch_size is 8
    want = (8 * batches[0] + 4 * batches[1]) / 12
    assert trainer.evaluate()["eval_loss"] == pytest.approx(want.item(), rel=1e-5)
