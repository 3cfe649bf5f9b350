"""Small models, a tokenizer and settings for trainers of TRL, of whichever version is in front."""

import warnings

import pytest
import torch
import transformers as tr
from tokenizers import Tokenizer, models, pre_tokenizers

import wideneck as wn
from clients.client_models import V, llama
from wideneck.config import Sigsoftmax

trl = pytest.importorskip("trl")

VERSION = tuple(int(part) for part in trl.__version__.split(".")[:2])
FUSED = VERSION >= (1, 15)
"""Whether models are asked for per-token numbers; before, for a loss by SFT, else for logits."""

HEADS = {
    "sigsoftmax": Sigsoftmax(shift=0.0, learned=True),
    "moss": {
        "name": "moss",
        "num_components": 2,
        "activation": {"name": "sigsoftmax", "shift": 0.0},
    },
    "softmax": "softmax",
}
MEMORY = {"temperature": 0.5, "bias": -1.0}


def base(tied=False):
    return shaken(llama(tied))


def shaken(model):
    """Every parameter moved, so that nothing is where it started and has no gradient there."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def with_head(name, tied=False, model=None):
    return shaken(wn.attach(base(tied) if model is None else model, HEADS[name]))


def with_memory(tied=False, **options):
    return wn.attach_memory(with_head("sigsoftmax", tied), **{**MEMORY, **options})


def tokenizer():
    words = ["<s>", "</s>", "<pad>", *(f"w{i}" for i in range(V - 3))]
    plain = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<pad>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    return tr.PreTrainedTokenizerFast(tokenizer_object=plain, **special)


def text(seed, length):
    """Words of few kinds, so that they repeat."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(9, (length,), generator=generator)
    return " ".join(f"w{int(i)}" for i in ids)


def arguments(kind, folder, **options):
    """The trainer's own config: one step of plain SGD, its defaults for the rest."""
    plain = {
        "output_dir": str(folder),
        "use_cpu": True,
        "bf16": False,
        "per_device_train_batch_size": 2,
        "max_steps": 1,
        "learning_rate": 1.0,
        "lr_scheduler_type": "constant",
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(trl, kind)(**{**plain, **options})


def built(kind, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(trl, kind)(processing_class=tokenizer(), **options)


class _Seen(tr.TrainerCallback):
    """The gradients of a model when its optimizer takes a step."""

    def __init__(self, model):
        self.model, self.gradients = model, {}

    def on_pre_optimizer_step(self, *_, **__):
        for name, parameter in self.model.named_parameters():
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            self.gradients[name] = gradient.detach().clone()


def stepped(trainer):
    """Take one step; the gradient of every parameter, accumulated as the trainer does."""
    seen = _Seen(trainer.model)
    trainer.add_callback(seen)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.train()
    return seen.gradients


def gradients(model, loss):
    """Of every parameter, 0 where there is none."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    zero = torch.zeros(())
    return {
        n: zero.expand_as(p) if g is None else g
        for n, p, g in zip(names, parameters, found, strict=True)
    }


def log_probs(model, ids, mask=None, temperature=1.0):
    """(B, T, V) in the model's precision, formed one and all."""
    result = model(input_ids=ids, attention_mask=mask)
    return (result.logits / temperature).log_softmax(-1)
