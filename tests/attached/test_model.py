"""A model with a head: its loss, its outputs, generate, compile and checkpoints."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
import transformers as tr
from attachable import SOME_PAIRS, attached, shaken, token_ids

import wideneck as wn
from tiny import LLAMA, tiny_model


def labels_of(ids):
    """Some ignored, and one of them first in its row, where it is never a target."""
    labels = ids.clone()
    labels[0, :4] = -100
    labels[1, -2:] = -100
    return labels


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("case", "head"), SOME_PAIRS)
def test_the_loss_is_that_of_the_log_probabilities(case, head, training):
    model = shaken(attached(case, head))
    ids = token_ids()
    labels = labels_of(ids)
    log_probs = model(input_ids=ids).logits
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(ids.shape))
    expected = F.nll_loss(log_probs[:, :-1].transpose(1, 2), labels[:, 1:])

    model.training = training  # of the model alone, so that nothing is dropped out
    out = model(input_ids=ids, labels=labels)

    torch.testing.assert_close(out.loss, expected)
    assert (out.logits is None) == training
    if not training:
        torch.testing.assert_close(out.logits, log_probs)


@pytest.mark.parametrize("num_items", [7, torch.tensor(7)])
def test_the_loss_of_a_softmax_is_that_of_transformers(num_items):
    original, model = tiny_model("llama"), attached("llama", "softmax")
    ids = token_ids()
    inputs = {"input_ids": ids, "labels": labels_of(ids)}
    shift = {"shift_labels": token_ids(2)}
    for options in ({}, {"num_items_in_batch": num_items}, shift, {"ignore_index": 5}):
        expected = original(**inputs | {"labels": ids}, **options).loss
        loss = model(**inputs | {"labels": ids}, **options).loss
        torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(model(**inputs).loss, original(**inputs).loss)
    assert loss.dtype == torch.float32


def test_gradients_are_those_of_the_log_probabilities():
    model = shaken(attached("llama-tied", "moss")).train()
    ids = token_ids()
    parameters = list(model.parameters())
    fused = torch.autograd.grad(model(input_ids=ids, labels=ids).loss, parameters)
    log_probs = model(input_ids=ids).logits
    expected = F.nll_loss(log_probs[:, :-1].transpose(1, 2), ids[:, 1:])
    for ours, theirs in zip(fused, torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_tuples_are_those_of_the_output(training):
    model = attached("llama", "sigsoftmax").train(training)
    ids = token_ids()
    whole = model(input_ids=ids, labels=ids, use_cache=False)
    parts = model(input_ids=ids, labels=ids, use_cache=False, return_dict=False)
    assert isinstance(parts, tuple)
    assert len(parts) == (1 if training else 2)
    assert torch.equal(parts[0], whole.loss)


def test_positions_and_names_of_arguments_are_the_originals():
    model = attached("llama", "sigsoftmax")
    ids = token_ids()
    mask = torch.ones_like(ids)
    out = model(ids, mask, None, None, None, ids)
    assert torch.equal(out.loss, model(input_ids=ids, attention_mask=mask, labels=ids).loss)


def test_only_the_logits_asked_for_are_formed():
    model = attached("granite", "moss")
    ids = token_ids()
    few = model(input_ids=ids, logits_to_keep=2).logits
    assert few.shape == (2, 2, 96)
    torch.testing.assert_close(few, model(input_ids=ids).logits[:, -2:])


def test_threads_do_not_take_each_others_log_probabilities():
    # Granite scales its logits, so that they are taken from the head and not from the output.
    model = attached("granite", "sigsoftmax")
    inputs = [token_ids(seed, (1, 40)) for seed in range(8)]
    with torch.no_grad(), ThreadPoolExecutor(4) as pool:
        expected = [model(input_ids=ids).logits for ids in inputs]
        for _ in range(3):
            found = list(pool.map(lambda ids: model(input_ids=ids).logits.detach(), inputs))
            assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_the_router_of_a_mixture_of_experts_keeps_its_loss():
    torch.manual_seed(0)
    config = tr.MixtralConfig(
        **LLAMA, num_local_experts=2, output_router_logits=True, router_aux_loss_coef=0.5
    )
    model = tr.MixtralForCausalLM(config).eval()
    ids = token_ids()
    expected = model(input_ids=ids, labels=ids).loss
    assert expected - wn.attach(model, "softmax")(input_ids=ids).aux_loss * 0.5 > 4
    torch.testing.assert_close(model(input_ids=ids, labels=ids).loss, expected)


@pytest.mark.parametrize(("case", "head"), SOME_PAIRS)
def test_generation_starts_with_the_tokens_of_the_model(case, head):
    original, model = tiny_model(case), attached(case, head)
    prompt = token_ids(shape=(1, 5))
    mask = torch.ones_like(prompt)
    for options in ({}, {"num_beams": 2}):
        options |= {"max_new_tokens": 8, "do_sample": False, "attention_mask": mask}
        expected = original.generate(prompt, **options)
        assert torch.equal(model.generate(prompt, **options), expected)


def test_sampling_follows_the_log_probabilities():
    original, model = tiny_model("llama"), attached("llama", "gss")
    prompt = token_ids(shape=(1, 5))
    options = {"max_new_tokens": 8, "do_sample": True, "top_p": 0.9, "temperature": 0.7}
    results = []
    for each in (original, model):
        torch.manual_seed(4)
        results.append(each.generate(prompt, attention_mask=torch.ones_like(prompt), **options))
    assert torch.equal(*results)


# Newer versions of transformers say that the method has got another name.
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable.*:FutureWarning")
def test_gradient_checkpoints_change_no_gradient():
    model = attached("llama-tied", "moss").train()
    ids = token_ids()
    parameters = list(model.parameters())
    expected = torch.autograd.grad(model(input_ids=ids, labels=ids).loss, parameters)
    model.gradient_checkpointing_enable()
    found = torch.autograd.grad(model(input_ids=ids, labels=ids).loss, parameters)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_compiled_model_gives_the_same_loss_and_logits():
    model = attached("granite", "moss").train()
    ids = token_ids()
    expected = model(input_ids=ids, labels=ids).loss
    gradient = torch.autograd.grad(expected, model.lm_head.weight)[0]
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    loss = compiled(input_ids=ids, labels=ids, use_cache=False).loss
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, model.lm_head.weight)[0], gradient)
    logits = compiled(input_ids=ids, use_cache=False).logits
    torch.testing.assert_close(logits, model(input_ids=ids).logits)


@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize("head", ["sigsoftmax", "moss"])
def test_the_gradient_of_a_loss_is_the_same_beside_logits(head, memory):
    """The loss goes back through the head's output, which then holds the logits, too."""
    model = shaken(attached("llama-tied", head)).double()
    if memory:
        model = wn.attach_memory(model, temperature=0.5, bias=-1.0)
    ids, parameters = token_ids(), list(model.parameters())

    def gradients(total):
        return torch.autograd.grad(total, parameters, allow_unused=True)

    want = gradients(model(input_ids=ids, labels=ids, skip_logits=True).loss)
    result = model(input_ids=ids, labels=ids, wants_logits=True)
    up = torch.randn_like(result.logits)
    alone = torch.autograd.grad(
        (result.logits * up).sum(), parameters, retain_graph=True, allow_unused=True
    )
    beside = torch.autograd.grad(result.loss, parameters, retain_graph=True, allow_unused=True)
    torch.testing.assert_close(beside, want, rtol=1e-5, atol=1e-6)
    again = torch.autograd.grad(
        (result.logits * up).sum(), parameters, retain_graph=True, allow_unused=True
    )
    torch.testing.assert_close(again, alone)
    both = gradients(result.loss + (result.logits * up).sum())
    zero = [torch.zeros_like(p) for p in parameters]
    filled = [[z if g is None else g for g, z in zip(x, zero, strict=True)] for x in (want, alone)]
    expected = [a + b for a, b in zip(*filled, strict=True)]
    got = [z if g is None else g for g, z in zip(both, zero, strict=True)]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)  # its norms are in float32
