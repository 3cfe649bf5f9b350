"""DPOTrainer and KTOTrainer: policy and reference both have the head, and so has the loss."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset

import wideneck as wn
from clients.trl_small import (
    HEADS,
    arguments,
    built,
    gradients,
    log_probs,
    shaken,
    text,
    with_head,
    with_memory,
)

BETA = 0.1


def pairs():
    given = [
        {"prompt": text(i, 3) + " ", "chosen": text(i + 9, 2 + i), "rejected": text(i + 20, 4)}
        for i in range(2)
    ]
    return Dataset.from_list(given)


def judged():
    given = [
        {"prompt": text(i, 3) + " ", "completion": text(i + 9, 2 + i), "label": i % 2 == 0}
        for i in range(4)
    ]
    return Dataset.from_list(given)


def moved(model):
    """Another model of the same kind, so that the reference is not the policy."""
    return shaken(copy.deepcopy(model))


def trainer_of(kind, model, folder, data, reference, batch):
    args = arguments(f"{kind}Config", folder, per_device_train_batch_size=batch)
    return built(f"{kind}Trainer", model=model, ref_model=reference, args=args, train_dataset=data)


def inputs_of(trainer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return next(iter(trainer.get_train_dataloader()))


def sequences(model, ids, mask, completion):
    """Log-probability of each completion, in float64, of logits formed one and all."""
    dense = log_probs(model, ids, mask)[:, :-1]
    at = dense.gather(-1, ids[:, 1:, None])[..., 0]
    return (at * completion[:, 1:]).sum(-1)


def dpo_loss(policy, reference, inputs):
    given = [inputs[name] for name in ("input_ids", "attention_mask", "completion_mask")]
    with torch.no_grad():
        theirs = sequences(reference, *given)
    ratios = sequences(policy, *given) - theirs
    chosen, rejected = ratios.chunk(2)
    return -F.logsigmoid(BETA * (chosen - rejected)).mean()


def kto_loss(policy, reference, inputs):
    def ratios(prefix):
        between = "" if "input_ids" in inputs else "completion_"  # TRL 1.7
        names = (f"{between}input_ids", f"{between}attention_mask", "completion_mask")
        given = [inputs[prefix + name] for name in names]
        with torch.no_grad():
            theirs = sequences(reference, *given)
        return sequences(policy, *given) - theirs

    with torch.no_grad():
        kl = ratios("KL_").mean().clamp(min=0)
    label, found = torch.as_tensor(inputs["label"]), ratios("")
    # Ethayarajh et al. 2024, Eq. 7, with weights of 1.
    return (1 - torch.sigmoid(BETA * torch.where(label, found - kl, kl - found))).mean()


LOSSES = {"DPO": (pairs, dpo_loss, 2), "KTO": (judged, kto_loss, 4)}


def check(kind, model, tmp_path):
    data, expected, batch = LOSSES[kind]
    reference = moved(model)
    policy, other = copy.deepcopy(model).double(), copy.deepcopy(reference).double()
    trainer = trainer_of(kind, model, tmp_path, data(), reference, batch)
    inputs = inputs_of(trainer)
    model.train()
    loss = trainer.compute_loss(model, inputs)
    wanted = expected(policy, other, inputs)
    assert abs(loss.item() - wanted.item()) < 1e-6
    found = gradients(model, loss)
    for name, gradient in gradients(policy, wanted).items():
        error = (found[name] - gradient).abs().max()
        assert error < 1e-6 + 1e-5 * gradient.abs().max(), name  # of float32
    return found


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("kind", LOSSES)
def test_loss_is_that_of_the_heads_log_probabilities(shows, tmp_path, kind, head, tied):
    found = check(kind, with_head(head, tied), tmp_path)
    moved = [g for name, g in found.items() if "activation" in name or "projections" in name]
    assert all(gradient.abs().max() > 1e-8 for gradient in moved)
    shows(f"{kind}Trainer, ref_model=copy.deepcopy(model)", "right")


@pytest.mark.parametrize("kind", LOSSES)
def test_loss_is_that_of_the_mixture_with_a_memory(shows, tmp_path, kind):
    check(kind, with_memory(), tmp_path)
    shows(f"{kind}Trainer, a memory", "right")


@pytest.mark.parametrize("kind", LOSSES)
def test_a_step_trains_the_head(tmp_path, kind):
    data, _, batch = LOSSES[kind]
    model = with_head("moss")
    trainer = trainer_of(kind, model, tmp_path, data(), copy.deepcopy(model), batch)
    assert wn.trl.fused(trainer) is trainer
    before = copy.deepcopy(dict(model.named_parameters()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.train()
    for name, parameter in model.named_parameters():
        assert not torch.equal(parameter, before[name]), name
