"""Token outputs of models: heads, memories and what wraps them, against the model's own logits."""

import pytest
import torch
import transformers as tr
from attachable import attached, shaken, token_ids
from remembering import prompts, remembering
from torch import nn

import wideneck as wn
from functional.token_examples import ALL, of_log_probs
from tiny import LLAMA, tiny_model
from wideneck.attached import memory_tokens
from wideneck.attached.token_call import REQUEST, TokenRequest

PAIRS = [
    ("llama-tied", "softmax"),
    ("llama", "sigsoftmax"),
    ("llama-tied", "moss"),
    ("gpt2", "moc"),
    ("granite", "gss"),
    ("gemma2-low-cap", "mos"),
]
MEMORIES = {
    "llama": ("llama", {}),
    "learned": ("llama", {"learned": True}),
    "linear": ("gpt2", {"mixture": "linear", "weight": 0.3}),
    "logits": ("llama", {"scores": "logits", "learned": True}),
    "window": ("mistral", {"window": 3}),
    "bart": ("bart", {"learned": True}),
    "t5": ("t5", {}),
}


def labels_of(ids):
    labels = ids.clone()
    labels[0, :4] = -100
    labels[1, -2:] = -100
    return labels


def same(got, want, **tolerance):
    for name in ALL:
        found, expected = getattr(got, name), getattr(want, name)
        torch.testing.assert_close(found, expected, msg=lambda m, n=name: f"{n}: {m}", **tolerance)


def gradients(outputs, parameters):
    total = (outputs.log_prob - 0.3 * outputs.entropy).sum()
    found = torch.autograd.grad(total, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("case", "head"), PAIRS)
def test_of_a_head_they_are_those_of_the_logits(case, head, training):
    model = shaken(attached(case, head)).double()
    model.training = training  # of the model alone, so that nothing is dropped out
    ids = token_ids()
    labels, parameters = labels_of(ids), list(model.parameters())
    T = torch.linspace(0.6, 1.6, 11)
    got = model.token_outputs(input_ids=ids, labels=labels, outputs=ALL, temperature=T)
    want = of_log_probs(model(input_ids=ids).logits[:, :-1], labels[:, 1:], T)
    assert got.entropy.shape == (2, 11)
    same(got, want)
    torch.testing.assert_close(gradients(got, parameters), gradients(want, parameters))
    aligned = wn.token_outputs(model, input_ids=ids, shift_labels=labels)
    same_labels = of_log_probs(model(input_ids=ids).logits, labels)
    torch.testing.assert_close(aligned.log_prob, same_labels.log_prob)
    assert aligned.entropy is None


@pytest.mark.parametrize("T", [1.0, 1.7])
@pytest.mark.parametrize("case", MEMORIES)
def test_of_a_memory_they_are_those_of_the_mixture(case, T, monkeypatch):
    monkeypatch.setattr(memory_tokens, "SCORES", 5 * 96)  # five positions at a time
    name, options = MEMORIES[case]
    model = remembering(name, torch.float64, **options)
    inputs, parameters = prompts(), list(model.parameters())
    whole = model.config.is_encoder_decoder
    if whole:
        inputs["decoder_input_ids"] = token_ids(2, (3, 6))
        labels = token_ids(3, (3, 6))
        labels[:, 1] = inputs["input_ids"][:, -1]  # some stand in the memory
    else:
        labels = inputs["input_ids"].clone()
        labels[~inputs["attention_mask"].bool()] = -100
    labels[1, -2:] = -100
    got = wn.token_outputs(model, **inputs, labels=labels, outputs=ALL, temperature=T)
    logits = model(**inputs, use_cache=False).logits
    want = of_log_probs(logits if whole else logits[:, :-1], labels if whole else labels[:, 1:], T)
    same(got, want)
    torch.testing.assert_close(gradients(got, parameters), gradients(want, parameters))


def test_the_log_probabilities_of_a_memory_are_its_loss():
    """The mixture's likelihood, found another way: without its distribution."""
    model = remembering("llama", torch.float64, alpha=0.0, learned=True)
    inputs, parameters = prompts(), list(model.parameters())
    labels = inputs["input_ids"].masked_fill(~inputs["attention_mask"].bool(), -100)
    got = model.token_outputs(**inputs, labels=labels).log_prob
    loss = model(**inputs, labels=labels).loss
    mean = -got.sum() / (labels[:, 1:] != -100).sum()
    torch.testing.assert_close(mean, loss, check_dtype=False)
    torch.testing.assert_close(
        torch.autograd.grad(mean, parameters), torch.autograd.grad(loss, parameters)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("head", ["softmax", "moss"])
def test_under_autocast_the_log_probabilities_of_a_memory_are_its_loss(head, dtype):
    """The projections of a mixture are in bfloat16 there, in both."""
    model = wn.attach_memory(shaken(attached("llama", head)), alpha=0.0, bias=-1.0).to(dtype)
    ids = token_ids()
    with torch.autocast("cpu", torch.bfloat16):
        got = model.token_outputs(input_ids=ids, labels=ids).log_prob
        loss = model(input_ids=ids, labels=ids).loss
    torch.testing.assert_close(-got.mean(), loss)


def test_a_decoders_input_is_made_of_the_labels():
    model = remembering("bart", torch.float64)
    labels = token_ids(3, (3, 6))
    got = model.token_outputs(**prompts(), labels=labels).log_prob
    torch.testing.assert_close(-got.mean(), model(**prompts(), labels=labels).loss)
    encoded = model.get_encoder()(**prompts())
    options = {"encoder_outputs": encoded, "decoder_memory_ids": prompts()["input_ids"]}
    options["attention_mask"] = prompts()["attention_mask"]
    again = model.token_outputs(**options, labels=labels).log_prob
    torch.testing.assert_close(again, got)


@pytest.mark.parametrize("memory", [False, True])
def test_labels_that_are_all_ignored_are_zeros_with_gradients_of_zero(memory):
    model = remembering("llama") if memory else attached("llama", "moss")
    ids = token_ids()
    got = model.token_outputs(
        input_ids=ids, labels=torch.full_like(ids, -100), outputs=ALL, temperature=0.7
    )
    for name in ALL:
        assert getattr(got, name).shape == (2, 11)
        assert not getattr(got, name).any()
    (got.log_prob + got.entropy).sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


class Wrapper(nn.Module):
    """What passes all on, and counts its calls."""

    def __init__(self, model, answer=None):
        super().__init__()
        self.module, self.calls, self.answer = model, 0, answer

    def forward(self, *args, **kwargs):
        self.calls += 1
        return self.module(*args, **kwargs) if self.answer is None else self.answer


@pytest.mark.parametrize("memory", [False, True])
def test_a_wrapper_is_called_itself(memory):
    model = remembering("llama") if memory else attached("llama", "sigsoftmax")
    wrapper, ids = Wrapper(model), token_ids()
    calls = []
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    model.get_output_embeddings().register_forward_pre_hook(lambda *_: calls.append(2))
    got = wn.token_outputs(wrapper, input_ids=ids, labels=ids, outputs=("log_prob", "top1"))
    assert wrapper.calls == 1
    assert calls == [1, 2]
    want = model.token_outputs(input_ids=ids, labels=ids)
    torch.testing.assert_close(got.log_prob, want.log_prob)
    with pytest.raises(wn.WideneckError, match="did not pass the request"):
        wn.token_outputs(Wrapper(model, answer={}), input_ids=ids, labels=ids)


def test_the_logits_of_all_tokens_are_not_formed():
    model, ids = attached("llama", "moss"), token_ids()
    seen = []
    hook = model.lm_head.register_forward_hook(lambda m, i, out: seen.append(out.numel()))
    model.token_outputs(input_ids=ids, labels=ids, outputs=ALL, temperature=0.9)
    hook.remove()
    assert seen == [0]


def test_a_router_keeps_its_loss_for_whoever_asks():
    torch.manual_seed(0)
    config = tr.MixtralConfig(**LLAMA, num_local_experts=2, output_router_logits=True)
    model = wn.attach(tr.MixtralForCausalLM(config).eval(), "softmax")
    ids = token_ids()
    result = model(input_ids=ids, labels=ids, **{REQUEST: TokenRequest(("log_prob",))})
    torch.testing.assert_close(result.aux_loss, model(input_ids=ids).aux_loss)
    torch.testing.assert_close(
        result.log_prob, model.token_outputs(input_ids=ids, labels=ids).log_prob
    )


def test_a_compiled_model_gives_the_same():
    model, ids = attached("llama", "sigsoftmax"), token_ids()
    options = {"outputs": ("log_prob", "entropy"), "temperature": 1.3}
    want = model.token_outputs(input_ids=ids, labels=ids, **options)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager")
    got = wn.token_outputs(compiled, input_ids=ids, labels=ids, use_cache=False, **options)
    torch.testing.assert_close(got.log_prob, want.log_prob)
    torch.testing.assert_close(got.entropy, want.entropy)
    weight = model.lm_head.weight
    torch.testing.assert_close(
        torch.autograd.grad(got.entropy.sum(), weight),
        torch.autograd.grad(want.entropy.sum(), weight),
    )


def test_mistakes_are_one_sentence():
    model, ids = attached("llama", "softmax"), token_ids()
    with pytest.raises(wn.WideneckError, match="labels as the model takes them"):
        model.token_outputs(input_ids=ids)
    with pytest.raises(wn.WideneckError, match="takes its inputs by name"):
        wn.token_outputs(model, ids, labels=ids)
    with pytest.raises(wn.WideneckError, match="outputs are some of"):
        model.token_outputs(input_ids=ids, labels=ids, outputs=("entropies",))
    with pytest.raises(wn.WideneckError, match=r"call wideneck\.attach"):
        wn.token_outputs(tiny_model("llama"), input_ids=ids, labels=ids)
    memory = remembering("llama")
    cache = memory(input_ids=ids, use_cache=True).past_key_values
    with pytest.raises(wn.WideneckError, match="for whole texts"):
        memory.token_outputs(input_ids=ids, labels=ids, past_key_values=cache)
    with pytest.raises(wn.WideneckError, match="positive number for every target"):
        memory.token_outputs(input_ids=ids, labels=ids, temperature=torch.zeros(2, 11))


@pytest.mark.parametrize("kind", ["softmax", "moss"])
def test_a_model_learns_from_the_states_of_another(kind):
    torch.manual_seed(0)
    model = attached("llama-tied", kind)
    teacher, ids = shaken(tiny_model("llama")), token_ids()
    labels = labels_of(ids)
    with torch.no_grad():
        states = teacher.model(ids).last_hidden_state[:, :-1]
        log_t = teacher(ids).logits[:, :-1].log_softmax(-1)
    lesson = wn.functional.Teacher(states, teacher.lm_head.weight)
    soft_ids, soft = log_t.topk(3).indices, log_t.exp().topk(3).values
    told = model.token_outputs(
        input_ids=ids, labels=labels, outputs=("divergence", "cross_entropy", "top1"),
        teacher=lesson, soft_ids=soft_ids, soft_probs=soft,
    )  # fmt: skip
    log_s, kept = model(ids).logits[:, :-1].log_softmax(-1), labels[:, 1:] != -100
    want = (log_t.exp() * (log_t - log_s)).sum(-1) * kept
    torch.testing.assert_close(told.divergence, want, atol=1e-5, rtol=1e-4)
    cross = -(soft * log_s.gather(-1, soft_ids)).sum(-1) * kept
    torch.testing.assert_close(told.cross_entropy, cross, atol=1e-5, rtol=1e-4)
    (ours,) = torch.autograd.grad(told.divergence.sum(), model.lm_head.weight)
    (theirs,) = torch.autograd.grad(want.sum(), model.lm_head.weight)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)
    with pytest.raises(wn.WideneckError, match="takes a teacher"):
        wn.token_outputs(model, input_ids=ids, labels=labels, teacher=lesson)


def test_a_memory_has_no_divergence():
    model, ids = remembering("llama"), prompts()["input_ids"]
    log_t = torch.zeros(*ids[:, 1:].shape, model.config.vocab_size)
    with pytest.raises(wn.WideneckError, match="without the memory"):
        wn.token_outputs(model, input_ids=ids, labels=ids, outputs=("divergence",), teacher=log_t)
