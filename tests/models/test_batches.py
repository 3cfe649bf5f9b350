"""Windows that go through a model together, and what happens where memory ends."""

import types

import pytest
import torch

from wideneck.errors import WideneckError
from wideneck.models import batches as module
from wideneck.models.batches import Batches
from wideneck.models.ranks import ALONE, Ranks

MODEL = types.SimpleNamespace(
    config=types.SimpleNamespace(
        get_text_config=lambda **_: types.SimpleNamespace(hidden_size=4, intermediate_size=10)
    ),
    dtype=torch.float16,
)


class Memory:
    """Reads at most `holds` windows at a time."""

    def __init__(self, holds):
        self.holds, self.tried = holds, []

    def __call__(self, windows):
        self.tried.append(len(windows))
        if len(windows) > self.holds:
            try:
                raise torch.OutOfMemoryError("planted")
            except RuntimeError as error:  # as `ask` does
                raise WideneckError("it does not run") from error
        return [10 * window for window in windows]


def test_memory_that_runs_out_halves_the_batch_for_good():
    reading, memory = Batches(MODEL, 9, 5), Memory(2)
    with pytest.warns(UserWarning, match="^wideneck: ") as told:
        found = reading.read(range(3, 12), memory)
    assert found == [10 * window for window in range(3, 12)]
    assert memory.tried == [9, 4, 2, 2, 2, 2, 1]
    assert [str(one.message) for one in told] == [
        "wideneck: 9 windows at once do not fit the memory, going on with 4.",
        "wideneck: 4 windows at once do not fit the memory, going on with 2.",
    ]
    memory.tried.clear()
    assert reading.read(range(4), memory) == [0, 10, 20, 30]
    assert memory.tried == [2, 2]


def test_a_single_window_without_memory_is_one_sentence():
    with pytest.raises(WideneckError, match="5 tokens do not fit the memory together"):
        Batches(MODEL, 1, 5).read(range(1), Memory(0))


def test_other_mistakes_are_not_put_down_to_memory():
    def wrong(_windows):
        raise WideneckError("planted")

    with pytest.raises(WideneckError, match=r"^planted$"):
        Batches(MODEL, 4, 5).read(range(4), wrong)


def test_groups_hold_windows_of_one_length():
    lengths = [7, 7, 7, 3, 7, 7, 7, 7, 7]
    groups = Batches(MODEL, 3, 7).groups(lengths)
    assert [list(group) for group in groups] == [[0, 1, 2], [3], [4, 5, 6], [7, 8]]
    assert [len(group) for group in Batches(MODEL, None, 7).groups(lengths)] == [1] * 9


def test_offloaded_layers_get_as_many_windows_as_fit(monkeypatch):
    monkeypatch.setattr(module, "is_offloaded", lambda _: True)
    monkeypatch.setattr(module, "_free_memory", lambda _: 100_000)
    # 2 x 10 + 6 x 4 numbers of 2 bytes for each of 50 tokens, in 60 % of the memory.
    assert Batches(MODEL, None, 50).most == int(0.6 * 100_000 / (50 * 44 * 2))
    assert Batches(MODEL, None, 50, outputs=96).most == int(60_000 / (50 * (44 + 3 * 96) * 2))
    monkeypatch.setattr(module, "_free_memory", lambda _: 0)
    assert Batches(MODEL, None, 50).most == 1
    assert Batches(MODEL, 7, 50).most == 7
    monkeypatch.setattr(module, "_free_memory", lambda _: 100_000)
    sizes = types.SimpleNamespace(hidden_size=4, intermediate_size=[10, 6])  # as Gemma 3n, by layer
    by_layer = types.SimpleNamespace(get_text_config=lambda **_: sizes)
    model = types.SimpleNamespace(config=by_layer, dtype=torch.float16)
    assert Batches(model, None, 50).most == Batches(MODEL, None, 50).most


def test_free_memory_is_that_of_the_device_that_computes(monkeypatch):
    def free(places, memory):
        monkeypatch.setattr("accelerate.utils.get_max_memory", lambda: memory)
        monkeypatch.setattr(module, "map_of", lambda _: places)
        return module._free_memory(None)

    monkeypatch.setattr(module, "computing", lambda places: {*map(torch.device, places)})
    assert free({"cuda:0": "", "cuda:1": ""}, {0: 9, 1: 5, "cpu": 1}) == 5
    assert free({"cpu": ""}, {0: 9, "cpu": 1}) == 1
    assert free({"mps:0": ""}, {"mps": 3}) == 3
    assert free({"cpu": ""}, {"mps": 3}) == 3


def test_one_process_works_as_it_is_asked():
    asked = []
    results = ALONE.in_order(3, lambda i: asked.append(i) or i * i)
    assert next(results) == 0
    assert asked == [0]
    assert list(results) == [1, 4]
    ALONE.agree("anything", object())
    with pytest.raises(
        WideneckError, match=r"3 processes are more than the windows of text that they share \(2\)"
    ):
        list(Ranks(0, 3).in_order(2, lambda i: i))


def test_a_process_that_is_gone_is_one_sentence(monkeypatch):
    import torch.distributed as dist

    asked = []

    def closed(_found, _value):
        asked.append(1)
        raise RuntimeError("[gloo] Connection closed by peer [127.0.0.1]:1")

    monkeypatch.setattr(dist, "all_gather_object", closed)
    ranks = Ranks(0, 2)
    with (
        pytest.raises(WideneckError, match="A process that shares the work is gone"),
        ranks.together(),
    ):
        list(ranks.in_order(2, lambda i: i))
    assert len(asked) == 1
