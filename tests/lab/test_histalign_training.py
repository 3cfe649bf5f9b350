"""What a run of the ambiguous template is trained on, in which order, and by which seed."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from lab.small_reproduction import TINY, small, write_words
from wideneck.lab.ambiguous.encoding import IGNORE, Example, make_task
from wideneck.lab.ambiguous.splits import SPLITS
from wideneck.lab.ambiguous.words import make_prompts, read_analogies
from wideneck.lab.histalign import runs as module
from wideneck.lab.histalign.objectives import COMMON, OBJECTIVES
from wideneck.lab.histalign.reproduction import SCALES
from wideneck.lab.histalign.training import MAX_NORM, start, steps, train


@pytest.fixture
def analogies(tmp_path):
    return read_analogies(write_words(tmp_path, num_pairs=16))


@pytest.fixture
def encoding(analogies):
    return start(None, TINY, OBJECTIVES["trime"], analogies, 0)[1]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_prompt_of_the_test_is_trained_on(analogies, encoding, seed):
    """Nor any word of one: what follows a prompt in training is its answer."""
    task = make_task(analogies, encoding, "leak-free", seed, 10_000)
    trained = {tuple(row.ids) for row in task.rows}
    answers = {answer for pair in task.targets for answer in pair}
    for prompt in task.prompts:
        assert not any(row[: len(prompt)] == tuple(prompt) for row in trained)
    for row in task.rows:
        assert not answers & {i for i, label in zip(row.ids, row.labels, strict=True) if label >= 0}
        assert not answers & set(row.ids)


@pytest.mark.parametrize("split", SPLITS)
def test_rows_are_all_of_the_training_part_and_prompts_are_of_the_test_part(
    analogies, encoding, split
):
    parts = SPLITS[split](analogies, 3)
    task = make_task(analogies, encoding, split, 3, 10_000)
    prompts = {prompt.text: prompt for prompt in make_prompts(parts.test)}
    expected = {tuple(ids) for ids in encoding.prompt_ids(list(prompts))}
    assert {tuple(ids) for ids in task.prompts} == expected
    assert len(task.prompts) == len(prompts)
    beginnings = {
        tuple(ids) for ids in encoding.prompt_ids([p.text for p in make_prompts(parts.train)])
    }
    assert {tuple(row.ids[:-1]) for row in task.rows} == beginnings


def test_the_two_answers_of_a_prompt_are_its_two_words(analogies, encoding):
    task = make_task(analogies, encoding, "leak-free", 0, 10_000)
    for (x, y), first, second, ids in zip(
        task.targets, task.first, task.second, task.prompts, strict=True
    ):
        assert x != y
        assert x in first.tolist()
        assert y in second.tolist()
        assert {x, y} <= set(ids)


def test_split_and_draw_go_with_the_seed(analogies, encoding):
    parts = [make_task(analogies, encoding, "leak-free", seed, 10_000) for seed in (0, 1)]
    assert {tuple(p) for p in parts[0].prompts} != {tuple(p) for p in parts[1].prompts}
    assert len(make_task(analogies, encoding, "leak-free", 0, 5).prompts) == 5
    orders = set()
    for seed in range(4):
        prompts = make_prompts(SPLITS["leak-free"](analogies, seed).test)
        texts = list(dict.fromkeys(prompt.text for prompt in prompts))
        place = {tuple(ids): i for i, ids in enumerate(encoding.prompt_ids(texts))}
        task = make_task(analogies, encoding, "leak-free", seed, 10_000)
        orders.add(tuple(place[tuple(ids)] for ids in task.prompts[:50]))
    assert len(orders) == 4  # another draw each time, not only other prompts


def test_the_draw_goes_with_the_seed_where_the_split_does_not(analogies, encoding, monkeypatch):
    parts = SPLITS["leak-free"](analogies, 0)
    monkeypatch.setitem(SPLITS, "leak-free", lambda analogies, seed: parts)
    first, again, other = (
        make_task(analogies, encoding, "leak-free", seed, 40).prompts for seed in (0, 0, 1)
    )
    assert first == again != other


class Recorder(torch.nn.Module):
    """One number whose loss is a multiple of it, larger at every call."""

    def __init__(self, growth=1.0):
        super().__init__()
        self.number = torch.nn.Parameter(torch.tensor([5.0]))
        self.growth, self.calls, self.numbers, self.gradients = growth, [], [], []

    def forward(self, **given):
        self.calls.append(given)
        self.numbers.append(self.number.item())
        self.gradients.append(self.number.grad)
        return SimpleNamespace(loss=(self.growth ** len(self.calls)) * self.number.sum())


def rows(num):
    """Of different lengths; the id 100 + i and one or two labels name row i."""
    return [
        Example(ids=[1] * (i % 3) + [100 + i, 2], labels=[IGNORE] * (i % 3 + 1) + [2])
        for i in range(num)
    ]


def order(model):
    return [
        [int(x) for x in ids if x >= 100]
        for call in model.calls
        for ids in call["input_ids"].tolist()
    ]


def test_the_rate_falls_linearly_to_0_from_gradients_of_at_most_norm_1():
    """Adam goes by its rate where gradients are equal, which clipping makes of growing ones."""
    recipe = replace(TINY, batch_size=2, micro_batch=2, num_steps=5, learning_rate=0.1)
    model = Recorder(growth=10.0)
    train(model, rows(7), recipe, 0, lambda share: None)
    assert MAX_NORM == 1.0
    assert model.gradients == [None] * 5  # no step goes by the gradient of another
    after = [*model.numbers[1:], model.number.item()]
    steps_made = [a - b for a, b in zip(model.numbers, after, strict=True)]
    assert steps_made == pytest.approx([0.1 * (1 - k / 5) for k in range(5)], rel=1e-4)


def test_every_row_comes_once_before_one_comes_twice_in_an_order_of_the_seed():
    recipe = replace(TINY, batch_size=2, micro_batch=2, num_steps=7)
    orders = []
    for seed in (0, 0, 1):
        model = Recorder()
        train(model, rows(7), recipe, seed, lambda share: None)
        orders.append([x for row in order(model) for x in row])
    assert orders[0] == orders[1] != orders[2]
    for found in orders:
        assert sorted(found[:7]) == sorted(found[7:]) == list(range(100, 107))
        assert found[:7] != list(range(100, 107))


def test_parts_of_a_batch_share_its_targets_and_padding_is_no_target():
    recipe = replace(TINY, batch_size=4, micro_batch=2, num_steps=1)
    model = Recorder()
    train(model, rows(4), recipe, 0, lambda share: None)
    assert len(model.calls) == 2
    for call in model.calls:
        assert call["num_items_in_batch"] == 4  # one a row, over both parts
        hidden = call["attention_mask"] == 0
        assert (call["labels"][hidden] == IGNORE).all()
        assert ((call["labels"] != IGNORE).sum(1) == 1).all()
        assert (call["attention_mask"].sum(1) == (call["input_ids"] > 0).sum(1)).all()


def test_epochs_are_of_batches():
    recipe = replace(TINY, num_steps=None, num_epochs=5, batch_size=32)
    assert steps(recipe, 640) == 100
    assert steps(recipe, 3) == 1
    assert steps(replace(recipe, num_steps=7), 640) == 7


def test_the_seed_of_a_run_is_that_of_all_that_is_drawn(analogies, monkeypatch):
    given = []

    def record(name, place):
        real = getattr(module, name)

        def called(*arguments, **named):
            given.append((name, arguments[place]))
            return real(*arguments, **named)

        monkeypatch.setattr(module, name, called)

    for name, place in (("start", 4), ("make_task", 3), ("train", 3)):
        record(name, place)
    found = module.run(small(), analogies, "trime", 7)
    assert found.seed == 7
    assert given == [("start", 7), ("make_task", 7), ("train", 7)]
    given.clear()
    record("make_task", 2)
    module.run(replace(small(), split="paper"), analogies, "trime", 1)
    assert ("make_task", "paper") in given


def test_a_model_starts_from_its_seed(analogies):
    first, again, other = (
        start(None, TINY, OBJECTIVES["trime"], analogies, seed)[0] for seed in (0, 0, 1)
    )
    weights = [model.get_output_embeddings().weight for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_objectives_differ_in_likelihood_values_and_ranking_loss_alone():
    """The margin and the reduction are those of the paper's runs of GPT-2."""
    assert COMMON == {"margin": 1e-3, "reduction": "offset_mean", "rank_over": "all"}
    for name, one in OBJECTIVES.items():
        ranked = name.endswith("_histalign")
        assert one.memory["alpha"] == float(ranked)
        assert one.over == (name.removesuffix("_histalign") if ranked else None)
        assert (one.memory.get("loss") == "cross_entropy") == name.startswith("cross_entropy")
        assert (one.memory.get("values") == "labels") == name.startswith("trime_released")
    assert SCALES["small"].num_test_prompts == SCALES["paper"].num_test_prompts == 4096
