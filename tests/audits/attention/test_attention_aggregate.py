"""From queries to heads, on layers whose numbers are made up."""

import math
from dataclasses import replace

import pytest
import torch

from wideneck.attention.config import Softmax
from wideneck.audits.attention.aggregate import Collected, known, row_means, spread
from wideneck.audits.attention.collect import DISTANCES, SEPARABILITY, Layer
from wideneck.audits.attention.settings import AttentionSettings

NAMES = [*DISTANCES, *SEPARABILITY]
SETTINGS = AttentionSettings(context=4, sizes=(1, 2), reference_size=2, num_queries=3)
QUERIES = torch.tensor([1, 2, 3])


def made(num_heads=1, num_windows=1):
    """A layer in which every number of the geometry is 1 where a query sees more than N keys."""
    seen = torch.arange(1, 5)
    enough = torch.stack([torch.where(seen[QUERIES] > size, 1.0, torch.nan) for size in (1, 2)])
    geometry = enough[None, :, None].expand(len(NAMES), 2, num_heads, 3)
    layer = Layer(Softmax(), temperature=2.0, head_dim=4)
    for _ in range(num_windows):
        layer.visible.append(seen)
        layer.entropy.append(torch.zeros(num_heads, 4))
        layer.first_key.append(torch.zeros(num_heads, 4))
        layer.importance.append(torch.zeros(num_heads))
        layer.geometry.append(geometry.clone())
        layer.jacobian.append(torch.ones(2, num_heads, 3))
    return layer


def test_a_sink_is_a_first_key_of_an_importance_above_0_3():
    layer = made(num_windows=4)
    layer.importance = [torch.tensor([x]) for x in (0.2999, 0.3001, 0.31, 0.1)]
    assert row_means(layer)["sink_share"].tolist() == [0.5]
    layer.importance[1] = torch.tensor([torch.nan])  # no query sees the first key there
    assert row_means(layer)["sink_share"].isnan().tolist() == [True]


def test_heads_keep_their_order_of_layers_and_heads():
    first, second = made(num_heads=2), made(num_heads=3)
    for layer, start in ((first, 0), (second, 2)):
        heads = layer.entropy[0].shape[0]
        layer.entropy = [torch.arange(start, start + heads).float()[:, None].expand(-1, 4)]
    found = Collected([first, second], SETTINGS, QUERIES).heads(None)
    assert [(h.layer, h.head) for h in found] == [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3)]
    assert [h.entropy for h in found] == [0, 1, 2, 3, 4]


def test_queries_whose_numbers_overflow_are_counted_and_left_out():
    layer = made(num_heads=2, num_windows=2)
    each = NAMES.index("each")
    layer.geometry[0][each, :, 0, 2] = torch.inf  # one query of one head, at both sizes
    layer.geometry[1][each, 0, 1, 1] = torch.inf
    layer.geometry[1][each, 1, 1, 2] *= 3
    collected = Collected([layer], SETTINGS, QUERIES)
    (note,) = collected.notes()
    assert "the geometry of 2 queries of layer 1" in note
    # At N = 2 the last two queries of each window count: for head 2 they are 1, 1, 1 and 3.
    assert [h.distance for h in collected.heads(None)] == [1, 1.5]
    assert Collected([made()], SETTINGS, QUERIES).notes() == []


def test_queries_are_counted_in_the_layer_that_sees_most():
    narrow = made()
    for geometry in narrow.geometry:
        geometry[:, 1] = torch.nan
    for layers in ([made(), narrow], [narrow, made()]):
        points = Collected(layers, SETTINGS, QUERIES).sizes()
        assert [(p.size, p.num_queries, p.num_excluded) for p in points] == [(1, 3, 0), (2, 2, 1)]
        assert points[1].distance == 1
        assert sorted(points[1].distance_by_head, key=str) == [[1.0], [None]]
    assert [p.size for p in Collected([narrow], SETTINGS, QUERIES).sizes()] == [1]


def test_a_length_has_the_queries_that_see_more_than_half_of_it():
    settings = replace(SETTINGS, context=40, num_queries=40)
    layer = made()
    layer.visible = [torch.arange(1, 41)]
    layer.entropy = [torch.arange(1, 41).log()[None]]  # as many effective keys as it sees
    layer.geometry = [torch.ones(len(NAMES), 2, 1, 40) * torch.arange(40)]
    short, whole = Collected([layer], settings, torch.arange(40)).lengths()
    assert (short.length, whole.length) == (32, 40)
    assert short.effective_keys.median == pytest.approx(sum(range(17, 33)) / 16)
    assert whole.effective_keys.median == pytest.approx(sum(range(21, 41)) / 20)
    assert (short.distance, whole.distance) == (sum(range(32)) / 32, sum(range(40)) / 40)
    # With keys of the future, the first 32 queries are not those of a window of 32.
    masked = replace(settings, include_masked=True)
    short, whole = Collected([layer], masked, torch.arange(40)).lengths()
    assert (short.distance, whole.distance) == (None, sum(range(40)) / 40)


def test_five_numbers_are_quartiles_of_what_is_finite():
    found = spread(torch.tensor([4.0, 0.0, math.inf, 1.0, 3.0, 2.0, math.nan]))
    numbers = (found.lowest, found.quarter, found.median, found.three_quarters, found.highest)
    assert numbers == (0, 1, 2, 3, 4)
    between = spread(torch.tensor([0.0, 1.0]))
    assert (between.quarter, between.three_quarters) == (0.25, 0.75)
    assert math.isnan(spread(torch.tensor([math.nan])).median)
    assert known(torch.tensor(math.nan)) is None
    assert known(torch.tensor(0.5)) == 0.5
