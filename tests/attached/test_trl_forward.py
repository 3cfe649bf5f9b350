"""A model answers the forward that TRL puts on it in TRL's terms, with its own distribution."""

import copy
import dataclasses

import pytest
import torch
from attachable import attached, shaken, token_ids
from remembering import remembering
from trl_like import FusedCausalLMOutput, redirection, utils

import wideneck as wn

EVERY = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")
MODELS = {
    "sigsoftmax": lambda: shaken(attached("llama", "sigsoftmax", shift=0.0, learned=True)),
    "moss": lambda: shaken(attached("llama-tied", "moss", num_components=2)),
    "memory": lambda: remembering("llama"),
}


def asked(name, *, dtype=torch.float64, temperature=0.7, outputs=EVERY):
    model = MODELS[name]().to(dtype)
    utils.add_fused_lm_head(model, temperature, outputs=outputs)
    return model.train()


def labelled():
    ids = token_ids(shape=(3, 9))
    labels = ids.clone()
    labels[0, :4] = labels[1] = -100
    return ids, labels


def dense(model, ids, target, temperature):
    """Of all logits: what TRL's docstring says of each field, with its masks."""
    log_p = (model(input_ids=ids).logits / temperature).log_softmax(-1)[:, : target.shape[1]]
    kept = target != -100
    at = target.clamp(min=0)
    fields = {
        "log_probs": log_p.gather(-1, at[..., None])[..., 0],
        "entropy": -(log_p.exp() * log_p).sum(-1),
        "log_sum_sq_probs": (log_p.exp() ** 2).sum(-1).log(),
        "mean_logits": log_p.mean(-1),
        "is_top1": log_p.argmax(-1) == at,
    }
    return {
        name: torch.where(kept, value, torch.zeros_like(value)) for name, value in fields.items()
    }


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_fields_are_those_of_all_logits(name, shifted):
    model = asked(name)
    ids, labels = labelled()
    given = {"shift_labels": labels} if shifted else {"labels": labels}
    target = labels if shifted else labels[:, 1:]
    found = model(input_ids=ids, use_cache=False, fused_lm_head=True, **given)
    assert isinstance(found, FusedCausalLMOutput)
    wanted = dense(model, ids, target, 0.7)
    for field, value in wanted.items():
        torch.testing.assert_close(getattr(found, field), value, msg=field)
    assert torch.equal(found.label_mask, target != -100)
    total, count = wanted["log_probs"].sum(), (target != -100).sum()
    torch.testing.assert_close(found.loss, -total / count)
    for items in (5, torch.tensor(5)):
        again = model(input_ids=ids, fused_lm_head=True, num_items_in_batch=items, **given)
        torch.testing.assert_close(again.loss, -total / 5)
    names = [n for n, _ in model.named_parameters()]
    weights = torch.linspace(-1, 1, target.numel()).view(target.shape).double()
    both = [(x["log_probs"] * weights + x["entropy"]).sum() for x in (wanted, vars(found))]
    ours, theirs = (torch.autograd.grad(x, [*model.parameters()], allow_unused=True) for x in both)
    for n, g, w in zip(names, ours, theirs, strict=True):
        torch.testing.assert_close(w, g, msg=n)


@pytest.mark.parametrize("name", MODELS)
def test_without_targets_there_is_a_zero_with_a_gradient(name):
    model = asked(name, dtype=torch.float32)
    ids = token_ids(shape=(2, 5))
    found = model(input_ids=ids, labels=torch.full_like(ids, -100), fused_lm_head=True)
    assert found.loss == 0
    assert found.log_probs.shape == (2, 4)
    found.log_probs.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_fields_that_nobody_asked_for_are_none():
    model = asked("moss", outputs=("entropy",))
    ids, labels = labelled()
    found = model(input_ids=ids, labels=labels, fused_lm_head=True)
    assert found.log_probs is not None
    assert found.entropy is not None
    assert found.is_top1 is None
    assert found.mean_logits is None


def test_any_other_call_is_the_models_own():
    model = MODELS["moss"]()
    ids, labels = labelled()
    plain = copy.deepcopy(model)
    utils.add_fused_lm_head(model)
    ours, theirs = (m(input_ids=ids, labels=labels) for m in (model, plain))
    assert torch.equal(ours.loss, theirs.loss)
    assert torch.equal(ours.logits, theirs.logits)
    assert torch.equal(model.generate(ids, max_new_tokens=3), plain.generate(ids, max_new_tokens=3))


def test_copies_answer_and_another_trainer_may_ask_anew():
    model = asked("moss")
    ids, labels = labelled()
    given = {"input_ids": ids, "labels": labels, "fused_lm_head": True}
    copied = copy.deepcopy(model)
    assert torch.equal(copied(**given).log_probs, model(**given).log_probs)
    utils.add_fused_lm_head(copied, 1.0, outputs=("log_probs",))
    wanted = dense(model, ids, labels[:, 1:], 1.0)
    torch.testing.assert_close(copied(**given).log_probs, wanted["log_probs"])
    assert copied(**given).entropy is None


def test_log_probabilities_carry_a_memorys_own_loss_where_they_are_summed():
    model = remembering("llama", alpha=2.0).double().train()
    utils.add_fused_lm_head(model)
    model.asked_by_trl = dataclasses.replace(model.asked_by_trl, sums=True)
    ids, labels = labelled()
    ids = ids % 6 + 3  # so few that they repeat, and the memory ranks
    labels = torch.where(labels == -100, labels, ids)
    given = {"input_ids": ids, "labels": labels, "num_items_in_batch": 7}
    ours, theirs = model(**given, fused_lm_head=True), model(**given)
    assert theirs.loss > 1.01 * -dense(model, ids, labels[:, 1:], 1.0)["log_probs"].sum() / 7
    torch.testing.assert_close(-ours.log_probs.sum() / 7, theirs.loss)
    torch.testing.assert_close(ours.loss, theirs.loss)
    for loss in (ours.loss, theirs.loss):
        model.zero_grad()
        loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        if loss is ours.loss:
            first = gradients
    for ours, theirs in zip(first, gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_forward_that_closes_over_something_unknown_is_refused():
    model = MODELS["sigsoftmax"]()
    utils.add_future_lm_head(model)
    assert model.asked_by_trl is None
    ids, labels = labelled()
    with pytest.raises(wn.WideneckError, match=r"trl\.trainer\.utils .*wideneck\.trl\.fused"):
        model(input_ids=ids, labels=labels, fused_lm_head=True)
    model = MODELS["sigsoftmax"]()
    utils.add_fused_lm_head(model, outputs=("log_probs", "varentropy"))
    assert model.asked_by_trl is None


def test_what_no_head_can_answer_is_refused_when_it_is_asked():
    model = MODELS["sigsoftmax"]()
    with pytest.raises(wn.WideneckError, match="cast_lm_head_to_fp32"):
        utils.add_fused_lm_head(model, cast_lm_head_to_fp32=True)
    with pytest.raises(wn.WideneckError, match="labelled of test_trl_forward multiplies"):
        redirection.redirect(model, labelled)


def test_logits_in_training_may_be_changed_in_place():
    for name in MODELS:
        model = MODELS[name]().train()
        ids, _ = labelled()
        logits = model(input_ids=ids).logits
        logits.div_(0.7)
        logits.log_softmax(-1)[..., 3].sum().backward()
        assert model.get_output_embeddings().weight.grad.any()
