"""Weights that are there in a module's own call only: sharded, released or offloaded."""

import accelerate
import pytest
import torch
from attachable import ON_PLAIN, attached, shaken, token_ids
from memories_on_processes import DDP, FSDP2, HEADS, MEMORY, losses
from remembering import MODELS, model_of, prompts, remembering
from test_two_processes import TORCHRUN, printed

import wideneck as wn

CPU = torch.device("cpu")


def test_two_processes_train_a_memory_as_one(tmp_path):
    """DDP, which waits for a gradient of every parameter, and FSDP2 of every layer by itself."""
    alone = {" ".join(case): losses(*case, "alone", 0, 1) for case in {*DDP, *FSDP2}}
    together = printed(TORCHRUN, "memories_on_processes.py", str(tmp_path))
    for kind in ("ddp", "fsdp2"):
        for case, found in together[kind].items():
            assert abs(found[0] - found[-1]) > 0.1, (kind, case)
            assert found == pytest.approx(alone[case], rel=1e-5), (kind, case)
    saved, other, loaded = together["restored"]
    assert loaded == pytest.approx(saved, rel=1e-6)
    assert abs(other - saved) > 1e-2


class Released:
    """What ZeRO-3 does to a process: every module's weights are there from its call to the end of
    it, and from the gradient of its outputs to that of its inputs."""

    def __init__(self, model):
        self.whole = {parameter: parameter.data for parameter in model.parameters()}
        for parameter in self.whole:
            parameter.data = parameter.data.new_empty(0)
        for module in model.modules():
            module.register_forward_pre_hook(self.enter)
            module.register_forward_hook(self.leave)

    def gather(self, module):
        for parameter in module.parameters(recurse=False):
            parameter.data = self.whole[parameter]

    def release(self, module):
        for parameter in module.parameters(recurse=False):
            parameter.data = parameter.data.new_empty(0)

    def enter(self, module, args):
        self.gather(module)
        return tuple(
            _At.apply(x, self.release, module) if isinstance(x, torch.Tensor) else x for x in args
        )

    def leave(self, module, _, output):
        self.release(module)
        if not isinstance(output, torch.Tensor):
            return output
        return _At.apply(output, self.gather, module)


class _At(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, then, module):
        ctx.then = then, module
        return x.detach()

    @staticmethod
    def backward(ctx, gradient):
        then, module = ctx.then
        then(module)
        return gradient, None, None


@pytest.mark.parametrize("wants_logits", [False, True])
@pytest.mark.parametrize("memory", [None, MEMORY, {**MEMORY, "scores": "logits", "bias": 0.0}])
@pytest.mark.parametrize("case", ["llama", "llama-tied"])
@pytest.mark.parametrize("head", HEADS)
def test_weights_that_are_released_between_calls_are_back_for_the_backward_pass(
    head, case, memory, wants_logits
):
    if head == "moss" and memory is not None:
        memory = {**memory, "scores": "log_probs"}

    def model():
        made = shaken(attached(case, HEADS[head]).double())
        made.get_output_embeddings().activation.float()  # as in every dtype
        return (made if memory is None else wn.attach_memory(made, **memory)).train()

    ids = token_ids() % 9 + 3
    plain, bare = model(), model()
    want = plain(ids, labels=ids).loss
    want.backward()
    weights = Released(bare).whole

    loss = bare(ids, labels=ids, wants_logits=wants_logits).loss
    loss.backward()

    torch.testing.assert_close(loss, want)
    for ours, theirs in zip(weights, plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12)


def labelled(batch):
    return {**batch, "labels": batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)}


def offloaded(model, kind, folder):
    if kind == "cpu":
        return accelerate.cpu_offload(model, execution_device=CPU)
    return accelerate.disk_offload(model, str(folder), execution_device=CPU)


@pytest.mark.parametrize("kind", ["cpu", "disk"])
@pytest.mark.parametrize("name", MODELS)
def test_an_offloaded_model_remembers_as_it_did(name, kind, tmp_path):
    model, batch = remembering(name), labelled(prompts())
    want, text = model(**batch), model.generate(**prompts(), max_new_tokens=3)
    model = offloaded(model, kind, tmp_path)
    result = model(**batch)
    torch.testing.assert_close(result.loss, want.loss)
    torch.testing.assert_close(result.logits, want.logits)
    assert torch.equal(model.generate(**prompts(), max_new_tokens=3), text)


@pytest.mark.parametrize("head", ON_PLAIN)
def test_an_offloaded_head_predicts_as_it_did(head, tmp_path):
    model, ids = shaken(attached("llama-tied", head)), token_ids()
    want = model(ids, labels=ids)
    result = offloaded(model, "cpu", tmp_path)(ids, labels=ids)
    torch.testing.assert_close((result.loss, result.logits), (want.loss, want.logits))


@pytest.mark.parametrize("normalizer", ["ssmax", "sink", "entmax", "asentmax"])
def test_an_offloaded_normalizer_weighs_as_it_did(normalizer, tmp_path):
    model = shaken(wn.attention.use(model_of("llama"), normalizer))
    want = model(**prompts()).logits
    torch.testing.assert_close(offloaded(model, "cpu", tmp_path)(**prompts()).logits, want)


def test_a_memory_ranks_by_the_embeddings_without_the_noise_of_training():
    """As NEFTune adds it, by a hook of the embedding."""
    model, batch = remembering("llama").train(), labelled(prompts())
    want = model(**batch)
    ranked = model.cache_memory.statistics.take(True)["ranking_loss"]
    noise = [0]

    def add(module, _, output):
        noise[0] += module.training
        return output * -1 if module.training and not torch.is_grad_enabled() else output

    model.get_input_embeddings().register_forward_hook(add)
    torch.testing.assert_close(model(**batch).loss, want.loss)
    assert model.cache_memory.statistics.take(True)["ranking_loss"] == pytest.approx(ranked)
    assert noise[0] == 1


def test_a_loss_with_a_cache_ranks_the_tokens_that_the_cache_holds():
    model = remembering("llama", torch.float64, reduction="sum", margin=1.0)
    ids = torch.tensor([[9, 3, 4, 8, 5, 4, 3, 4]])
    labels = ids.clone()
    labels[:, :6] = -100
    want = model(ids, labels=labels).loss
    cache = model(ids[:, :5], use_cache=True).past_key_values
    loss = model(ids[:, 5:], labels=labels[:, 5:], past_key_values=cache).loss
    torch.testing.assert_close(loss, want)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("memory", [None, MEMORY])
def test_layers_that_are_computed_again_change_nothing(memory, reentrant):
    def gradients(checkpointing):
        model = shaken(attached("llama", HEADS["moss"]))
        if memory is not None:
            wn.attach_memory(model, **memory)
        if checkpointing:
            older = model.gradient_checkpointing_enable
            enable = getattr(model, "activation_checkpointing_enable", older)
            enable({"use_reentrant": reentrant})
            model.enable_input_require_grads()
        ids = token_ids() % 9 + 3
        model.train()(ids, labels=ids).loss.backward()
        return [p.grad for p in model.parameters()]

    torch.testing.assert_close(gradients(True), gradients(False))
