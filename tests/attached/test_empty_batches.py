"""Batches without a target: nothing is learned from them, and nothing else is disturbed."""

import pytest
import torch
import transformers as tr
from attachable import attached, token_ids
from remembering import MODELS, model_of, prompts, remembering
from trainer_arguments import sgd

from wideneck.attached.memory_call import MemoryCall

MEMORIES = [
    {},
    {"mixture": "linear"},
    {"scores": "logits", "bias": 0.0},
    {"loss": "cross_entropy"},
    {"reduction": "sum"},
    {"reduction": "offset_sum"},
    {"reduction": "offset_mean", "values": "labels"},
    {"alpha": 0.0},
    {"warmup_batches": 2},
]
NO_ITEMS = [None, 0, 0.0, torch.tensor(0), torch.tensor(0.0), 7, torch.tensor(7)]


def assert_learns_nothing(model, **batch):
    """A loss of 0, and a gradient of 0 for every parameter: DDP waits for each."""
    loss = model.train()(**batch).loss
    loss.backward()
    assert loss.item() == 0
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:  # Pegasus has fixed positions
            assert parameter.grad is not None, name
            assert not parameter.grad.any(), name  # which NaN would be


def ignored(batch):
    return {**batch, "labels": torch.full_like(batch["input_ids"], -100)}


@pytest.mark.parametrize("num_items", NO_ITEMS, ids=repr)
@pytest.mark.parametrize("options", MEMORIES, ids=str)
def test_nothing_is_learned_without_targets(options, num_items):
    model = remembering("llama", **options)
    assert_learns_nothing(model, **ignored(prompts()), num_items_in_batch=num_items)


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_learned_without_targets_in_any_model(name):
    model, nothing = remembering(name), ignored(prompts())
    nothing["attention_mask"][1] = 0  # a row of padding
    if model.config.is_encoder_decoder:
        nothing["decoder_input_ids"] = nothing["input_ids"]
    assert_learns_nothing(model, **nothing, num_items_in_batch=torch.tensor(0))


@pytest.mark.parametrize("num_items", NO_ITEMS, ids=repr)
@pytest.mark.parametrize("head", ["softmax", "gss", "plif", "moss", "moc"])
def test_a_head_learns_nothing_without_targets(head, num_items):
    model = attached("llama", head)
    assert_learns_nothing(
        model, **ignored({"input_ids": token_ids()}), num_items_in_batch=num_items
    )


@pytest.mark.parametrize("length", [1, 2])
def test_the_shortest_texts_teach_the_model_alone(length):
    """They have no memory that anything sees."""
    model, plain, ids = remembering("llama").train(), model_of("llama"), torch.full((2, length), 5)
    loss = model(ids, labels=ids).loss
    loss.backward()
    if length == 2:
        torch.testing.assert_close(loss, plain(ids, labels=ids).loss)
    else:
        assert loss.item() == 0
    for name, parameter in model.named_parameters():
        learns = length == 2 and not name.startswith("cache_memory")
        assert parameter.grad.isfinite().all(), name
        if "q_proj" not in name and "k_proj" not in name:  # the first token attends to itself alone
            assert parameter.grad.any() == learns, name


def test_every_number_has_a_gradient_in_every_batch():
    for options in MEMORIES:
        model = remembering("llama", **options).train()
        model(**prompts(), labels=prompts()["input_ids"]).loss.backward()
        assert all(p.grad is not None for p in model.parameters()), options


class Rows(torch.utils.data.Dataset):
    """Sequences of 12 tokens, of which those with an odd number have no target."""

    def __init__(self, numbers):
        self.numbers = numbers

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, i):
        generator = torch.Generator().manual_seed(self.numbers[i] // 2)
        ids = torch.randint(3, 9, (12,), generator=generator)
        labels = ids if self.numbers[i] % 2 == 0 else torch.full_like(ids, -100)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def trained(model, numbers, accumulate, folder, **options):
    steps = len(numbers) // accumulate
    arguments = sgd(folder, 1, accumulate, steps, learning_rate=0.05, **options)
    trainer = tr.Trainer(model, arguments, train_dataset=Rows(numbers))
    trainer._get_train_sampler = lambda *_: None  # in order
    trainer.train()
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("kind", ["memory", "gss", "moss"])
def test_the_trainer_takes_an_empty_micro_batch_for_nothing(kind, bf16, tmp_path):
    """Two steps, each of a micro-batch with targets and one without, and then a step of none."""

    def model():
        return remembering("llama") if kind == "memory" else attached("llama", kind)

    before = [p.detach().clone() for p in model().parameters()]
    ours = trained(model(), [0, 1, 3, 2, 5, 7], 2, tmp_path, bf16=bf16)
    theirs = trained(model(), [0, 2], 1, tmp_path, bf16=bf16)

    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert any((a - b).abs().max() > 1e-3 for a, b in zip(ours, before, strict=True))


def test_a_log_of_no_targets_has_no_means():
    model = remembering("llama").train()
    model(**ignored(prompts()))
    assert model.cache_memory.statistics.take(True) == {}


@pytest.mark.parametrize("num_targets", [0, 1, 5, 32, 33, 40])
def test_the_targets_that_are_looked_at_are_spread_over_all(num_targets):
    """Up to 32 different ones, the first and the last among them."""
    head = remembering("llama").get_output_embeddings()
    target = torch.full((3, 20), -100)
    places = torch.arange(60)[3:].tolist()[:num_targets]
    target.view(-1)[places] = 5
    call = MemoryCall(head, target, -100, None, False)
    call.answer(head, torch.randn(3, 20, 16))
    row, at = (part[call.sampled] for part in call.sample)
    found = (20 * row + at).tolist()
    assert len(found) == len(set(found)) == min(32, num_targets)
    assert set(found) <= set(places)
    assert found[:1] + found[-1:] == places[:1] + places[-1:]
