"""Recurrence and ranks where the answer is known."""

import pytest
import torch

from wideneck.audits.memory.context import Context
from wideneck.audits.memory.ranks import (
    LayerRanks,
    baseline_ranks,
    chance_ranks,
    reciprocal_ranks,
)
from wideneck.audits.memory.section import distinct_tokens, measure_recurrence
from wideneck.data import Windows

A, B, C = 5, 6, 7


def windows_of(rows, prefix=0, document=None):
    """Windows of given tokens: `prefix` of them stand in front, and the last is not read."""
    rows = torch.as_tensor(rows)
    return Windows(
        ids=rows[:, :-1],
        targets=rows[:, 1 + prefix :],
        document=torch.arange(len(rows)) if document is None else torch.tensor(document),
        num_bytes=torch.ones(len(rows), dtype=torch.long),
    )


def test_a_text_that_repeats_has_every_token_in_its_context():
    found = measure_recurrence(Context.of(windows_of([[A] * 300, [B] * 300])))
    # The first prediction sees no memory.
    assert found.share.value == pytest.approx(298 / 299)
    assert found.by_distance[0].share.value == pytest.approx(298 / 299)
    assert found.elsewhere is not None
    assert found.elsewhere.value == 0


def test_a_text_without_repetition_has_none():
    context = Context.of(windows_of(torch.arange(100).reshape(2, 50)))
    found = measure_recurrence(context)
    assert found.share.value == 0
    assert not context.ranked.any()
    assert all(point.share.value == 0 for point in found.by_distance)


def test_distances_fall_into_their_buckets_at_the_edges():
    for distance, bucket in ((1, 0), (8, 0), (9, 1), (32, 1), (33, 2), (128, 2), (129, 3)):
        # One token occurs again, after `distance`; the first token is no value.
        row = [1, A, *range(1000, 1000 + distance - 1), A]
        found = measure_recurrence(Context.of(windows_of([row])))
        shares = [point.share.value * (len(row) - 1) for point in found.by_distance]
        assert shares == pytest.approx([float(k == bucket) for k in range(4)])


def test_the_first_token_of_the_text_is_a_value_only_behind_a_prefix():
    assert not Context.of(windows_of([[A, B, A]])).ranked.any()
    context = Context.of(windows_of([[0, A, B, A]], prefix=1))
    assert context.ranked.tolist() == [[False, True]]
    assert context.visible.tolist() == [[True, False], [True, True]]


def test_memory_starts_before_the_token_that_is_predicted():
    """A repeats at once: its own state's value must not be in the memory."""
    assert Context.of(windows_of([[B, A, A, A]])).ranked.tolist() == [[False, True, True]]


def test_the_same_document_lends_no_targets_to_itself():
    rows = [[A, A, A], [B, B, B], [A, A, A]]
    found = Context.of(windows_of(rows, document=[0, 1, 0])).elsewhere()
    assert found is not None
    assert found.sum() == 0
    one = Context.of(windows_of(rows, document=[0, 0, 0])).elsewhere()
    assert one is not None
    assert one[:, 1].tolist() == [0.5, 0, 0.5]  # the other window of As, of two others
    assert Context.of(windows_of(rows[:1])).elsewhere() is None


@pytest.mark.parametrize("document", [list(range(12)), [0] * 3 + list(range(1, 10)), [0] * 12])
def test_targets_come_from_the_next_8_windows_of_other_documents(document):
    """Each from the windows that follow in turn; of the same document where there is one only."""
    rows = torch.randint(6, (12, 9), generator=torch.Generator().manual_seed(0))
    context = Context.of(windows_of(rows, document=document))
    found = context.elsewhere()
    one = len(set(document)) == 1
    for w in range(12):
        order = [(w + k) % 12 for k in range(1, 12)]
        others = [v for v in order if one or document[v] != document[w]][:8]
        for t in range(8):
            seen = set(rows[w, 1 : t + 1].tolist())
            hits = [rows[v, t + 1].item() in seen for v in others]
            assert found[w, t].item() == pytest.approx(sum(hits) / len(hits))


def test_with_few_other_documents_each_window_is_one_of_those_there_are():
    rows = torch.randint(4, (4, 9), generator=torch.Generator().manual_seed(1))
    document = [0, 0, 0, 1]  # three windows have one other, the last has three
    found = Context.of(windows_of(rows, document=document)).elsewhere()
    for w in range(4):
        others = [v for v in range(4) if document[v] != document[w]]
        for t in range(8):
            seen = set(rows[w, 1 : t + 1].tolist())
            hits = [rows[v, t + 1].item() in seen for v in others]
            assert found[w, t].item() == pytest.approx(sum(hits) / len(hits))


def test_a_score_that_is_no_number_gives_no_rank_where_it_is_seen():
    context = Context.of(windows_of([[1, A, B, A, B, A]]))
    scores = torch.zeros(1, 5, 4)
    scores[0, 2, 3] = torch.nan  # the memory that position 2 does not see
    usual = reciprocal_ranks(context, torch.zeros(1, 5, 4))[0]
    assert torch.equal(reciprocal_ranks(context, scores)[0, 2:], usual[2:])
    scores[0, 4, 0] = torch.inf
    ranks = reciprocal_ranks(context, scores)[0]
    assert torch.equal(ranks[2:4], usual[2:4])
    assert ranks[4].isnan()


def test_states_that_tell_the_current_token_find_what_followed_it():
    tokens = [A, B, C] * 6
    windows = windows_of([tokens, tokens, [1, 2, *tokens[2:]]])
    states = torch.nn.functional.one_hot(windows.ids).float()
    ranks = LayerRanks(windows)
    for start in (0, 2):
        for name in ("layer 1", "entering the head"):
            ranks.keep(name, start, ranks(name, start, states[start : start + 2]))
    assert torch.cat(ranks.entering).shape == states.shape
    for kept in (ranks.dot, ranks.cosine):
        assert list(kept) == ["layer 1", "entering the head"]
        for found in kept.values():
            assert (found[:2, 4:] == 1).all()
    identity = baseline_ranks(ranks.context)["token_identity"]
    assert (identity[:2, 4:] == 1).all()


def test_equal_states_are_level_and_share_their_ranks():
    tokens = torch.tensor([[1, A, B, C, A, B]])  # the last prediction is B
    ranks = LayerRanks(windows_of(tokens))
    ranks.keep("layer 1", 0, ranks("layer 1", 0, torch.ones(1, 5, 4)))
    # A, B and C are level at the last position: 1 / (1 + 2 / 2).
    assert ranks.dot["layer 1"][0, -1] == 0.5


def test_a_state_of_zeros_has_no_direction_and_gives_no_nan():
    windows = windows_of([[1, A, B, A, B, A]])
    states = torch.zeros(1, 5, 4)
    ranks = LayerRanks(windows)
    ranks.keep("layer 1", 0, ranks("layer 1", 0, states))
    # All memories are level, as by their products.
    assert torch.equal(ranks.cosine["layer 1"][0, 1:], ranks.dot["layer 1"][0, 1:])
    assert ranks.cosine["layer 1"][0, 4] == 1 / (1 + 1 / 2)  # A and B, of which A comes


def test_ranks_do_not_see_a_monotone_map_of_the_scores():
    torch.manual_seed(0)
    context = Context.of(windows_of(torch.randint(9, (3, 41))))
    scores = torch.randn(3, 40, 39)
    expected = reciprocal_ranks(context, scores)[context.ranked]
    assert torch.equal(reciprocal_ranks(context, (3 * scores).exp())[context.ranked], expected)
    part = reciprocal_ranks(context, scores[1:2], 1)
    assert torch.equal(
        part[0][context.ranked[1]], expected.split(context.ranked.sum(1).tolist())[1]
    )


def test_chance_is_the_mean_over_random_orders_of_distinct_tokens():
    generator = torch.Generator().manual_seed(0)
    rows = torch.stack([torch.randperm(12, generator=generator) for _ in range(4)])
    context = Context.of(windows_of(torch.cat([rows, rows[:, 3:9]], 1)))
    chance = chance_ranks(distinct_tokens(context))[context.ranked]
    slots = context.slots[:, None].expand(4, 17, 16)
    draws = []
    for _ in range(2000):
        order = torch.rand(4, 17, 12, generator=generator).gather(2, slots)
        draws.append(reciprocal_ranks(context, order)[context.ranked])
    drawn = torch.stack(draws)
    error = drawn.std(0) / len(draws) ** 0.5
    assert ((drawn.mean(0) - chance).abs() < 5 * error).all()


def test_one_position_has_no_memory():
    context = Context.of(windows_of([[A, B], [A, B]]))
    assert context.visible.shape == (1, 0)
    assert not context.ranked.any()
    assert distinct_tokens(context).tolist() == [[0], [0]]
    found = measure_recurrence(context)
    assert found.share.value == 0
