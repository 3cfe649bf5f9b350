"""Pairs of a source and a target for encoder-decoders, and transformers' trainer of such pairs."""

import torch
import transformers as tr
from remembering import remembering
from tokenizers import Tokenizer, models
from trainer_arguments import sgd

import wideneck as wn
from tiny import V

NUM_STEPS = 3
SIZES = [(5, 4), (8, 1), (3, 6), (9, 3), (4, 2)]
"""Tokens of a source and of its target: a target may be one token."""


class Pairs(torch.utils.data.Dataset):
    """Few different tokens, so that a target often stands in its source."""

    def __len__(self):
        return 4 * NUM_STEPS

    def __getitem__(self, i):
        generator = torch.Generator().manual_seed(i)
        source, target = (
            torch.randint(3, 9, (size,), generator=generator).tolist()
            for size in SIZES[i % len(SIZES)]
        )
        return {"input_ids": source, "attention_mask": [1] * len(source), "labels": target}


def tokenizer(side="right"):
    """The words are numbers, and so are their ids."""
    inner = Tokenizer(models.WordLevel({str(i): i for i in range(V)}, unk_token="3"))
    marks = {"pad_token": "2", "eos_token": "1", "padding_side": side}
    return tr.PreTrainedTokenizerFast(tokenizer_object=inner, **marks)


def collated(numbers, *, model=None, side="right"):
    """A batch of the pairs of these numbers, of which the decoder's input is made by a model."""
    collator = tr.DataCollatorForSeq2Seq(tokenizer(side), model=model)
    return dict(collator([Pairs()[i] for i in numbers]))


def trainer_of(
    folder,
    model,
    *,
    batch=4,
    accumulate=1,
    num_steps=NUM_STEPS,
    collator=None,
    tells=True,
    **options,
):
    """A Seq2SeqTrainer; `tells` whether the collator is told of the model."""
    given = {"learning_rate": 0.05, "per_device_eval_batch_size": 4, **options}
    given["kind"] = tr.Seq2SeqTrainingArguments
    arguments = sgd(folder, batch, accumulate, num_steps, **given)
    told = model if tells else None
    return tr.Seq2SeqTrainer(
        model,
        arguments,
        train_dataset=Pairs(),
        eval_dataset=Pairs(),
        data_collator=collator or tr.DataCollatorForSeq2Seq(tokenizer(), model=told),
        processing_class=tokenizer(),
        callbacks=[wn.LogMemory()],
    )


def trained(folder, name, *, memory=None, **options):
    """What was logged at every step, and the trainer."""
    trainer = trainer_of(folder, remembering(name, **(memory or {})), **options)
    trainer.train()
    return logs_of(trainer), trainer


def logs_of(trainer):
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def evaluated():
    """The batches of an evaluation, as many rows in each."""
    return [collated(range(first, first + 4)) for first in range(0, len(Pairs()), 4)]


def without_dropout(monkeypatch):
    """Runs whose batches are cut in other ways would draw other masks."""
    monkeypatch.setattr(torch.nn.functional, "dropout", lambda x, *args, **kwargs: x)
