"""A forward of somebody else's that passes by the head is noticed; those that do not are let by."""

import copy
import functools
import inspect
import pickle
import threading
from contextlib import contextmanager
from types import MethodType

import accelerate
import pytest
import torch
import torch.nn.functional as F
import transformers as tr
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module
from accelerate.state import AcceleratorState
from attachable import attached, token_ids
from strangers import from_call, from_weight, in_module, loss_of, on_instance, taken_before
from torch import nn

import wideneck as wn
from tiny import tiny_model

IDS = token_ids()
BATCH = {"input_ids": IDS, "labels": IDS}
HEADS = [("sigsoftmax", {"shift": 0.0, "learned": True}), ("moss", {"num_components": 2})]


def model_with(head="moss", case="llama", **options):
    return attached(case, head, **options).train()


def remembering(case="llama"):
    torch.manual_seed(1)
    return wn.attach_memory(tiny_model(case)).train()


@contextmanager
def on_class(model, function):
    """As verl assigns to `model.__class__.forward`, for as long as a test."""
    own = type(model).forward
    type(model).forward = function
    try:
        yield
    finally:
        type(model).forward = own


@pytest.fixture(autouse=True)
def _own_state():
    """accelerate keeps what a process has asked for once."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


# ---- what is refused


@pytest.mark.parametrize(("head", "options"), HEADS)
@pytest.mark.parametrize("case", ["llama", "llama-tied"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_forward_on_the_instance_may_not_read_the_weight(head, options, case, wrapped):
    model = model_with(head, case, **options)
    on_instance(model, from_weight, wrapped=wrapped)
    for call in (model, model.forward):  # PEFT up to 0.20 calls forward by its name
        with pytest.raises(wn.WideneckError, match=r"^strangers reads the weight of the head"):
            call(**BATCH)


def test_a_forward_on_the_class_may_not_read_it_either():
    model = model_with()
    with on_class(model, from_weight), pytest.raises(wn.WideneckError, match="strangers reads"):
        model(**BATCH)
    assert model(**BATCH).loss.isfinite()


def test_nor_the_bias_and_not_by_getattr_with_a_default():
    model = model_with("softmax", "phi")

    def forward(self, input_ids=None, labels=None):
        return getattr(self.lm_head, "bias", None)

    on_instance(model, forward)
    with pytest.raises(wn.WideneckError, match=r"test_guard reads the bias"):
        model(**BATCH)


@pytest.mark.parametrize(
    ("module", "advice"),
    [
        ("trl.trainer.utils", r"wideneck\.trl\.fused\(trainer\)"),
        ("liger_kernel.transformers.model.llama", "fused_linear_cross_entropy"),
        ("verl.models.transformers.dense_common", "use_fused_kernels=False"),
        ("unsloth_zoo.loss_utils", "load the model with transformers"),
        ("somebody.elses", r"model\.token_outputs"),
    ],
)
@pytest.mark.parametrize("way", ["reads", "had taken"])
def test_the_client_is_named_and_what_to_do_instead(module, advice, way):
    model = model_with()
    function = from_weight if way == "reads" else taken_before(model)
    on_instance(model, in_module(module, function), wrapped=True)
    with pytest.raises(wn.WideneckError, match=advice) as caught:
        model(**BATCH)
    assert module in str(caught.value)
    assert str(caught.value).count(". ") == 0  # one sentence


def test_a_weight_that_was_taken_before_shows_when_it_trains():
    model = model_with()
    on_instance(model, taken_before(model))
    with pytest.raises(wn.WideneckError, match=r"strangers trains this LlamaForCausalLM without"):
        model(**BATCH)
    with torch.no_grad():
        model(**BATCH)  # trains nothing
    model.eval()(**BATCH)


@pytest.mark.parametrize("result", [tr.utils.ModelOutput, dict])
def test_log_probs_without_labels_are_training_too(result):
    model = model_with()
    weight = model.lm_head.weight

    def forward(self, input_ids=None):
        hidden = self.model(input_ids).last_hidden_state
        log_probs = F.linear(hidden, weight).log_softmax(-1)
        return result(log_probs=log_probs)

    on_instance(model, forward)
    with pytest.raises(wn.WideneckError, match="without its head"):
        model(input_ids=IDS)


@pytest.mark.parametrize("make", [model_with, lambda: model_with("moss")])
def test_states_of_our_own_forward_may_not_meet_the_weight_either(make):
    model = make()
    own = model.forward

    def forward(self, input_ids=None, labels=None):
        hidden = own(input_ids=input_ids, output_hidden_states=True).hidden_states[-1]
        return {"loss": loss_of(F.linear(hidden, self.lm_head.weight), labels)}

    on_instance(model, forward)
    with pytest.raises(wn.WideneckError, match=r"test_guard reads the weight"):
        model(**BATCH)


@pytest.mark.parametrize("attach", [lambda m: wn.attach(m, "moss"), wn.attach_memory])
@pytest.mark.parametrize("hooked", [False, True])
def test_a_patched_model_is_refused_at_attach(attach, hooked):
    model = tiny_model("llama")
    if hooked:
        add_hook_to_module(model, ModelHook())
    else:
        on_instance(model, from_weight)
    who = r"accelerate\.hooks" if hooked else "strangers"
    with pytest.raises(wn.WideneckError, match=f"{who} has replaced the forward"):
        attach(model)
    assert type(model) is tr.LlamaForCausalLM


def test_a_memory_is_not_attached_to_a_patched_model_with_a_head():
    model = model_with("softmax")
    on_instance(model, from_call)
    with pytest.raises(wn.WideneckError, match="strangers has replaced the forward"):
        wn.attach_memory(model)


def test_a_memory_is_not_left_out():
    model = remembering()
    for bare in (from_call, from_weight):
        on_instance(model, bare)
        with pytest.raises(wn.WideneckError, match=r"memory|weight of the head"):
            model(**BATCH)
    with pytest.raises(wn.WideneckError, match="would leave the memory out"):
        model.eval().lm_head(torch.randn(1, 3, 16))


def replace_by_linear(model):
    model.lm_head = nn.Linear(16, 96)


def replace_by_call(model):
    model.lm_head.forward = lambda hidden: hidden.new_zeros(*hidden.shape[:-1], 96)


@pytest.mark.parametrize("make", [model_with, remembering])
@pytest.mark.parametrize(
    ("change", "who"),
    [
        (replace_by_linear, "its output layer is now a Linear of torch.nn.modules.linear"),
        (replace_by_call, "test_guard has replaced the forward of its output layer"),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_a_head_that_is_not_called_is_one_sentence(make, change, who, training):
    model = make().train(training)
    change(model)
    with pytest.raises(wn.WideneckError, match=who):
        model(**BATCH)
    with pytest.raises(wn.WideneckError, match=who):
        model(input_ids=IDS)


def test_the_original_may_be_patched_below_ours(monkeypatch):
    def of_unsloth(self, input_ids=None, labels=None, **_):
        hidden = self.model(input_ids).last_hidden_state
        return tr.modeling_outputs.CausalLMOutputWithPast(logits=hidden @ self.lm_head.weight.T)

    model = model_with()
    monkeypatch.setattr(tr.LlamaForCausalLM, "forward", in_module("unsloth.models", of_unsloth))
    with pytest.raises(wn.WideneckError, match=r"the forward of unsloth\.models does not call it"):
        model(**BATCH)


# ---- what is let by


def loss_and_gradients(model, call=None):
    model.zero_grad()
    loss = (call or model)(**BATCH)
    loss = loss if torch.is_tensor(loss) else loss["loss"]
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in model.parameters())]


def assert_equal(first, second):
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("head", "options"), HEADS)
def test_a_loop_that_calls_the_head_trains_it(head, options):
    """nanoGPT: the logits of the layer, under a loss of one's own; log-probabilities stay so."""
    model = model_with(head, **options)
    want = loss_and_gradients(model)
    on_instance(model, from_call)
    assert_equal(loss_and_gradients(model), want)


def test_chunks_of_torchtitan_train_the_head():
    model = model_with()
    want = loss_and_gradients(model)

    def in_chunks(input_ids, labels):
        hidden = model.model(input_ids).last_hidden_state[:, :-1].flatten(0, 1)
        target = labels[:, 1:].flatten()
        parts = zip(hidden.chunk(8), target.chunk(8), strict=True)
        total = sum(F.cross_entropy(model.lm_head(h), t, reduction="sum") for h, t in parts)
        return total / len(target)

    assert_equal(loss_and_gradients(model, in_chunks), want)


class Wrapper(nn.Module):
    """As PEFT's modules_to_save: the head stays, a copy of it is trained in its place."""

    def __init__(self, head):
        super().__init__()
        self.original_module, self.copy = head, copy.deepcopy(head)

    def forward(self, hidden):
        return self.copy(hidden)

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.copy, name)


@pytest.mark.parametrize("make", [model_with, remembering])
def test_a_wrapped_head_is_the_head(make):
    model = make()
    want = model(**BATCH).loss
    model.lm_head = Wrapper(model.lm_head)
    loss = model(**BATCH).loss
    torch.testing.assert_close(loss, want)
    loss.backward()
    assert model.lm_head.original_module.weight.grad is None
    assert all(p.grad is not None for p in model.lm_head.copy.parameters())
    model.eval()
    torch.testing.assert_close(model(**BATCH).loss, want)
    assert model.generate(IDS[:1, :4], max_new_tokens=2).shape == (1, 6)


def test_accelerate_wraps_and_unwraps_the_forward():
    model = model_with()
    want = model(**BATCH).loss
    own = type(model).forward
    accelerator = accelerate.Accelerator(cpu=True, mixed_precision="bf16")
    prepared = accelerator.prepare_model(model)
    assert "forward" in vars(prepared)
    torch.testing.assert_close(prepared(**BATCH).loss, want, rtol=1e-2, atol=0)
    back = accelerator.unwrap_model(prepared, keep_fp32_wrapper=False)
    assert back is model
    assert back.forward.__func__ is own
    torch.testing.assert_close(back(**BATCH).loss, want)


def test_hooks_that_move_weights_may_read_them():
    class Moving(ModelHook):
        def pre_forward(self, module, *args, **kwargs):
            accelerate.utils.set_module_tensor_to_device(module, "lm_head.weight", "cpu")
            return args, kwargs

    model = model_with()
    want = model(**BATCH).loss
    add_hook_to_module(model, Moving())
    torch.testing.assert_close(model(**BATCH).loss, want)
    assert "input_ids" in inspect.signature(model.forward).parameters
    remove_hook_from_module(model)
    assert "forward" not in vars(model)
    torch.testing.assert_close(model(**BATCH).loss, want)


def test_hooks_around_our_own_forward_may_look_at_the_weight():
    """As loggers do before and after a step; a loss that passes by the head is in no hook."""
    model, seen = model_with(), []
    want = model(**BATCH).loss

    def look(module, *_):
        seen.append(module.lm_head.weight.detach().norm())

    model.register_forward_pre_hook(look)
    model.register_forward_hook(look)
    torch.testing.assert_close(model(**BATCH, output_hidden_states=True).loss, want)
    assert model(input_ids=IDS, output_hidden_states=True).hidden_states is not None
    whole = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(whole(**BATCH).loss, want)
    assert len(seen) == 6
    on_instance(model, from_weight)
    with pytest.raises(wn.WideneckError, match="reads the weight"):
        model(**BATCH)


def test_a_hook_may_change_the_logits_in_place():
    model = model_with().eval()

    def ban(_module, _inputs, logits):
        logits[..., 5] = -torch.inf

    model.lm_head.register_forward_hook(ban)
    with torch.no_grad():
        assert (model(input_ids=IDS).logits[..., 5] == -torch.inf).all()


def test_a_term_of_the_weight_may_be_added_to_our_loss():
    model = model_with()
    want, own = model(**BATCH).loss, model.forward

    def penalized(self, **inputs):
        loss = own(**inputs, output_hidden_states=True).loss
        return {"loss": loss + self.lm_head.weight.pow(2).sum()}

    on_instance(model, penalized)
    torch.testing.assert_close(model(**BATCH)["loss"], want + model.lm_head.weight.pow(2).sum())


def test_offloaded_weights_are_fetched_for_the_head():
    model = model_with("sigsoftmax", shift=0.0).eval()
    want = model(**BATCH)
    accelerate.cpu_offload(model, execution_device="cpu")
    have = model(**BATCH)
    torch.testing.assert_close(have.loss, want.loss)
    torch.testing.assert_close(have.logits, want.logits)


def test_the_signature_is_the_one_that_generate_and_the_trainer_read():
    model = model_with()
    want = list(inspect.signature(tr.LlamaForCausalLM.forward).parameters)
    assert list(inspect.signature(type(model).forward).parameters) == want
    assert list(inspect.signature(model.forward).parameters) == want[1:]

    @functools.wraps(type(model).forward)
    def theirs(self, *args, **kwargs):
        return own(*args, **kwargs)

    own = model.forward
    on_instance(model, theirs)
    assert list(inspect.signature(model.forward).parameters) == want[1:]
    assert model(**BATCH).loss.isfinite()
    prompt = IDS[:1, :4]
    assert model.eval().generate(prompt, max_new_tokens=3).shape == (1, 7)


@pytest.mark.parametrize("make", [model_with, remembering])
def test_copies_saves_and_new_sizes_are_let_by(make, tmp_path):
    model = make().eval()
    want = model(input_ids=IDS).logits
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(other(input_ids=IDS).logits, want)
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(wn.load(tmp_path)(input_ids=IDS).logits, want)
    model.resize_token_embeddings(101)
    assert model(input_ids=IDS).logits.shape[-1] == 101
    assert model.lm_head.weight.shape[0] == 101  # read by anyone outside of a call


def test_a_copy_of_a_patched_model_patches_the_copy():
    model = model_with()
    on_instance(model, from_call)
    other = copy.deepcopy(model)
    assert vars(other)["forward"].__self__ is other
    torch.testing.assert_close(other(**BATCH)["loss"], model(**BATCH)["loss"])


def test_threads_do_not_share_a_frame():
    """Somebody else's forward in one thread does not forbid another one to read the weight."""
    model, other = model_with(), model_with()
    inside, done = threading.Event(), threading.Event()

    def slow(self, input_ids=None, labels=None):
        inside.set()
        assert done.wait(30)
        return from_call(self, input_ids, labels)

    on_instance(model, slow)
    thread = threading.Thread(target=lambda: model(**BATCH))
    thread.start()
    assert inside.wait(30)
    assert other.lm_head.weight.shape == (96, 16)
    assert other(**BATCH).loss.isfinite()
    done.set()
    thread.join()


def test_a_model_inside_of_another_has_a_frame_of_its_own():
    student, teacher = model_with(), model_with("sigsoftmax", shift=0.0)
    own = student.forward

    def distil(self, input_ids=None, labels=None):
        with torch.no_grad():
            target = teacher(input_ids=input_ids).logits
        out = own(input_ids=input_ids, labels=labels, wants_logits=True)
        return {"loss": out.loss + F.kl_div(out.logits, target, reduction="sum", log_target=True)}

    on_instance(student, MethodType(distil, student).__func__)
    assert student(**BATCH)["loss"].isfinite()


# ---- which outputs are formed


@pytest.mark.parametrize("make", [model_with, remembering])
def test_logits_are_formed_where_they_are_wanted(make):
    model = make()
    assert model(**BATCH).logits is None
    wanted = model(**BATCH, wants_logits=True)
    torch.testing.assert_close(
        loss_of(wanted.logits, IDS),
        F.nll_loss(wanted.logits[:, :-1].flatten(0, 1), IDS[:, 1:].flatten()),
    )
    assert model(**BATCH, skip_logits=False).logits is not None
    model.eval()
    assert model(**BATCH).logits is not None
    for skipped in ({"skip_logits": True}, {"wants_logits": False}):
        out = model(**BATCH, **skipped)
        assert out.logits is None
        torch.testing.assert_close(out.loss, model(**BATCH).loss)
    assert model(input_ids=IDS, skip_logits=True).logits is not None  # there is no loss either
