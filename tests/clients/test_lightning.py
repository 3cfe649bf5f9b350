"""Lightning: a step of its trainer is a step of the model's own loss."""

import lightning
import pytest
import torch
from torch.optim import SGD
from torch.utils.data import DataLoader

import wideneck as wn
from clients.client_models import batch, every_head, every_tie, with_head, with_memory


class Module(lightning.LightningModule):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def training_step(self, inputs, _):
        return self.model(**inputs).loss

    def configure_optimizers(self):
        return SGD(self.parameters(), lr=0.1)


def after_a_step_of_lightning(model, folder, callbacks=()):
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=1,
        logger=False,
        callbacks=[*callbacks],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(Module(model.train()), DataLoader([batch()], batch_size=None))
    return model


def after_a_step(model):
    optimizer = SGD(model.train().parameters(), lr=0.1)
    model(**batch()).loss.backward()
    optimizer.step()
    return model


def assert_same_models(have, want):
    for (name, a), (_, b) in zip(have.named_parameters(), want.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6, msg=name)


@every_head
@every_tie
def test_one_step(shows, tmp_path, head, tied):
    have = after_a_step_of_lightning(with_head(head, tied), tmp_path)
    want = after_a_step(with_head(head, tied))
    assert_same_models(have, want)
    start = dict(with_head(head, tied).named_parameters())
    moved = {n for n, p in have.named_parameters() if not torch.equal(p.cpu(), start[n])}
    assert {n for n in start if n.startswith("lm_head")} <= moved
    shows("Trainer.fit", "right")


@pytest.mark.parametrize("tied", [False, True])
def test_one_step_of_a_memory(shows, tmp_path, tied):
    have = after_a_step_of_lightning(with_memory(tied), tmp_path)
    assert_same_models(have, after_a_step(with_memory(tied)))
    shows("Trainer.fit with a memory", "right")


@every_tie
def test_watch_sees_what_it_sees_in_a_loop_of_ones_own(shows, tmp_path, tied):
    periods = {"scores_every": 1, "weights_every": 1, "spectra_every": 1, "limit": None}
    have = wn.Watch(file=tmp_path / "watch.jsonl", **periods)
    after_a_step_of_lightning(with_head("sigsoftmax", tied), tmp_path, [have.lightning()])
    model = with_head("sigsoftmax", tied).train()
    want = wn.Watch(model, **periods)
    model(**batch()).loss.backward()
    want.step(1)
    assert {"entropy", "mean_row_share", "stable_rank"} <= set(want.last)
    assert have.last == pytest.approx(want.last, rel=1e-5, nan_ok=True)
    assert (tmp_path / "watch.jsonl").read_text()
    shows("Trainer(callbacks=[Watch().lightning()])", "right")
