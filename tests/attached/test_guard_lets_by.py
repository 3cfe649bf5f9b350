"""What calls the head, moves it or looks at it is let by, and which outputs are formed."""

import copy
import functools
import inspect
import pickle
import threading
from types import MethodType

import accelerate
import pytest
import torch
import torch.nn.functional as F
import transformers as tr
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module
from guarded_models import BATCH, HEADS, IDS, model_with, remembering
from strangers import from_call, from_weight, on_instance
from torch import nn

import wideneck as wn


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
    with torch.autocast("cpu", torch.bfloat16):
        in_half = model(**BATCH).loss
    own = type(model).forward
    accelerator = accelerate.Accelerator(cpu=True, mixed_precision="bf16")
    prepared = accelerator.prepare_model(model)
    assert "forward" in vars(prepared)
    assert torch.equal(prepared(**BATCH).loss, in_half.float())
    assert not torch.equal(in_half.float(), want)
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
    states = model(input_ids=IDS, output_hidden_states=True).hidden_states
    assert torch.equal(states[-1], model.model(IDS).last_hidden_state)
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
    assert torch.equal(model(**BATCH).loss, own(**BATCH).loss)
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
    want = other(**BATCH).loss
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
    assert torch.equal(other(**BATCH).loss, want)
    done.set()
    thread.join()


def test_a_model_inside_of_another_has_a_frame_of_its_own():
    student, teacher = model_with(), model_with("sigsoftmax", shift=0.0)
    own = student.forward
    with torch.no_grad():
        alone = student(**BATCH, wants_logits=True)
        log_q, log_p = alone.logits.double(), teacher(input_ids=IDS).logits.double()
        want = alone.loss + (log_p.exp() * (log_p - log_q)).sum()

    def distil(self, input_ids=None, labels=None):
        with torch.no_grad():
            target = teacher(input_ids=input_ids).logits
        out = own(input_ids=input_ids, labels=labels, wants_logits=True)
        return {"loss": out.loss + F.kl_div(out.logits, target, reduction="sum", log_target=True)}

    on_instance(student, MethodType(distil, student).__func__)
    torch.testing.assert_close(student(**BATCH)["loss"].double(), want.double(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("make", [model_with, remembering])
def test_logits_are_formed_where_they_are_wanted(make):
    model = make()
    with torch.no_grad():
        plain = model(input_ids=IDS).logits
    torch.testing.assert_close(plain.exp().sum(-1), torch.ones(IDS.shape))
    assert model(**BATCH).logits is None
    wanted = model(**BATCH, wants_logits=True)
    torch.testing.assert_close(wanted.logits, plain)
    assert torch.equal(wanted.loss, model(**BATCH).loss)
    torch.testing.assert_close(model(**BATCH, skip_logits=False).logits, plain)
    model.eval()
    torch.testing.assert_close(model(**BATCH).logits, plain)
    for skipped in ({"skip_logits": True}, {"wants_logits": False}):
        out = model(**BATCH, **skipped)
        assert out.logits is None
        torch.testing.assert_close(out.loss, model(**BATCH).loss)
    without_loss = model(input_ids=IDS, skip_logits=True)
    torch.testing.assert_close(without_loss.logits, plain)
