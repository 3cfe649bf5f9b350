"""Watch in a loop of one's own, in transformers' Trainer, and in a run that goes on."""

import copy
import json
import pickle

import pytest
import torch
import transformers as tr
from torch import nn
from watchable import labelled, plain, with_head

import wideneck as wn
from tiny import tiny_model

EVERY = {"scores_every": 2, "weights_every": 3, "spectra_every": 6, "limit": None}


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def trained(model, steps, watch, start=0):
    """SGD with momentum 0, so that the weights are all that a run goes on from."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ids, labels = labelled()
    for step in range(start + 1, steps + 1):
        model.zero_grad()
        loss = model(input_ids=ids.roll(step, 0), labels=labels.roll(step, 0)).loss
        loss.backward()
        if watch is not None:
            watch.step(step, loss=loss)
        optimizer.step()


def test_a_watched_run_trains_like_one_that_is_not(tmp_path):
    watched, left_alone = with_head("moss"), with_head("moss")
    torch.manual_seed(0)
    trained(watched, 4, wn.Watch(watched, file=tmp_path / "lines", **EVERY))
    drawn = torch.rand(1)
    torch.manual_seed(0)
    trained(left_alone, 4, None)
    assert torch.equal(drawn, torch.rand(1))
    for a, b in zip(watched.parameters(), left_alone.parameters(), strict=True):
        assert torch.equal(a, b)


def test_numbers_come_at_their_steps(tmp_path):
    model = plain("llama")
    watch = wn.Watch(model, file=tmp_path / "lines", **EVERY)
    trained(model, 7, watch)
    lines = lines_of(tmp_path / "lines")
    assert [line["step"] for line in lines if "entropy" in line] == [1, 2, 4, 6]
    assert [line["step"] for line in lines if "mean_row_share" in line] == [1, 3, 6]
    assert [line["step"] for line in lines if "effective_rank" in line] == [1, 6]
    assert all("loss" in line for line in lines)
    assert watch.last["entropy"] == lines[-1]["entropy"]


@pytest.mark.parametrize("torn", ["", '{"step": 7, "entr'])
def test_a_resumed_run_goes_on_to_the_same_lines(tmp_path, torn):
    """Stopped after step 6, with its last checkpoint after step 4."""
    whole = plain("llama")
    trained(whole, 8, wn.Watch(whole, file=tmp_path / "whole", **EVERY))

    stopped = plain("llama")
    watch = wn.Watch(stopped, file=tmp_path / "lines", **EVERY)
    trained(stopped, 4, watch)
    kept = copy.deepcopy(stopped.state_dict())
    trained(stopped, 6, watch, start=4)
    with (tmp_path / "lines").open("a") as file:
        file.write(torn)
    resumed = plain("llama")
    resumed.load_state_dict(kept)
    trained(resumed, 8, wn.Watch(resumed, file=tmp_path / "lines", **EVERY), start=4)

    assert (tmp_path / "lines").read_text() == (tmp_path / "whole").read_text()


def test_another_run_is_not_overwritten(tmp_path):
    model, lines = plain("llama"), tmp_path / "lines"
    trained(model, 2, wn.Watch(model, file=lines, **EVERY))
    before = lines.read_bytes()
    with pytest.raises(wn.WideneckError, match="holds another run"):
        trained(model, 2, wn.Watch(model, file=lines, **EVERY))
    assert lines.read_bytes() == before
    lines.write_text("once upon a time\n")
    with pytest.raises(wn.WideneckError, match="no file of watched steps"):
        trained(model, 2, wn.Watch(model, file=lines, **EVERY))
    assert lines.read_text() == "once upon a time\n"


def test_copies_of_a_watched_model_are_not_watched(tmp_path):
    model = with_head("sigsoftmax")
    watch = wn.Watch(model, **EVERY)
    copied = copy.deepcopy(model)
    ids, labels = labelled()
    copied(input_ids=ids, labels=labels).loss.backward()
    assert "entropy" not in watch.step(1)
    pickle.loads(pickle.dumps(model.lm_head))(torch.zeros(1, 16, dtype=torch.float64))
    watch.close()
    assert not model._forward_pre_hooks
    assert not model.get_output_embeddings()._forward_pre_hooks


def test_evaluation_is_not_looked_at():
    model = plain("llama")
    watch = wn.Watch(model, **EVERY)
    ids, labels = labelled()
    model.eval()(input_ids=ids, labels=labels)
    model.train()
    assert "entropy" not in watch.step(1)


def test_a_model_of_ones_own_names_its_head():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.lm_head = nn.Embedding(11, 4), nn.Linear(4, 11)

        def forward(self, ids):
            return self.lm_head(self.table(ids))

    model, ids = Own(), torch.arange(10)
    with pytest.raises(wn.WideneckError, match=r"Watch\(model, head=model.lm_head\)"):
        wn.Watch(model)
    watch = wn.Watch(model, head=model.lm_head)
    logits = model(ids)
    logits.logsumexp(-1).sum().backward()
    found = watch.step(1)
    assert found["log_normalizer"] == pytest.approx(logits.logsumexp(-1).mean().item(), rel=1e-6)
    assert "top1" not in found
    with pytest.raises(wn.WideneckError, match="a layer with a weight"):
        wn.Watch(model, head=nn.Identity())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scores_every": 0}, "scores_every >= 1"),
        ({"tokens": 2.5}, "tokens >= 1"),
        ({"limit": 1.5}, "limit between 0 and 1"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(wn.WideneckError, match=message):
        wn.Watch(**options)


def test_an_encoder_is_refused_and_so_is_a_step_that_is_not_the_next():
    with pytest.raises(wn.WideneckError, match="has an encoder"):
        wn.Watch(tr.BartForConditionalGeneration(tr.BartConfig(**BART)))
    with pytest.raises(wn.WideneckError, match="no model yet"):
        wn.Watch().step(1)
    watch = wn.Watch(plain("llama"))
    watch.step(3)
    with pytest.raises(wn.WideneckError, match="in their order, got 3 after 3"):
        watch.step(3)


BART = {
    "vocab_size": 96,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
}


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, i):
        ids = torch.randint(3, 96, (12,), generator=torch.Generator().manual_seed(i))
        return {"input_ids": ids, "labels": ids}


class Reported(tr.TrainerCallback):
    """What a tracker sees, which stands in front of the user's callbacks."""

    def __init__(self):
        self.logs = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.logs.append(dict(logs))


def hf_trainer(folder, steps, **options):
    torch.manual_seed(1)
    arguments = tr.TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=2,
        logging_steps=2,
        learning_rate=0.1,
        optim="sgd",
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        save_steps=2,
        **options,
    )
    tracker = Reported()
    trainer = tr.Trainer(tiny_model("llama"), arguments, train_dataset=Rows(), callbacks=[tracker])
    return trainer, tracker


def test_the_trainer_reports_what_is_watched(tmp_path):
    trainer, tracker = hf_trainer(tmp_path, 4)
    watch = wn.Watch(file=tmp_path / "lines", **EVERY)
    assert watch.join(trainer) is watch
    assert trainer.callback_handler.callbacks.count(watch.join(trainer)) == 1
    trainer.train()

    lines = lines_of(tmp_path / "lines")
    assert [line["step"] for line in lines if "entropy" in line] == [1, 2, 4]
    losses = {line["step"]: line["loss"] for line in lines if "loss" in line}
    history = {x["step"]: x["loss"] for x in trainer.state.log_history if "loss" in x}
    assert losses == history
    entropy = next(line["entropy"] for line in lines if line["step"] == 4)
    assert tracker.logs[1]["watch/entropy"] == entropy
    assert trainer.state.log_history[1]["watch/entropy"] == entropy
    assert not trainer.model._forward_pre_hooks


def test_a_trainer_that_resumes_goes_on_in_the_file(tmp_path):
    whole, _ = hf_trainer(tmp_path / "a", 6)
    wn.Watch(file=tmp_path / "whole", **EVERY).join(whole)
    whole.train()

    first, _ = hf_trainer(tmp_path / "b", 6)
    stop = Stop(5)
    first.add_callback(stop)
    wn.Watch(file=tmp_path / "lines", **EVERY).join(first)
    first.train()
    again, _ = hf_trainer(tmp_path / "b", 6)
    wn.Watch(file=tmp_path / "lines", **EVERY).join(again)
    again.train(resume_from_checkpoint=str(tmp_path / "b" / "checkpoint-4"))

    assert lines_of(tmp_path / "lines") == lines_of(tmp_path / "whole")


class Stop(tr.TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= self.step
