"""The mask of packed documents by its definition: one pair of a query and a key at a time."""

import itertools

import pytest
import torch

from wideneck.attention.call import documents


def document(borders, at):
    """The number of borders at or before a place."""
    return sum(border <= at for border in borders)


def by_loops(of_query, of_key, causal, mask=None):
    T, S = of_query[-1], of_key[-1]
    seen = torch.zeros(1, 1, T, S, dtype=torch.bool)
    for i, j in itertools.product(range(T), range(S)):
        same = document(of_query, i) == document(of_key, j)
        seen[0, 0, i, j] = same and (j <= i or not causal)
    return seen if mask is None else seen & mask


def found(of_query, of_key, causal=False, mask=None, **more):
    query, key = (torch.zeros(1, 2, borders[-1], 4) for borders in (of_query, of_key))
    given = {"cu_seq_lens_q": torch.tensor(of_query, dtype=torch.int32), **more}
    return documents("Layer", query, key, mask, causal=causal, **given)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("borders", [[0, 7], [0, 1, 7], [0, 3, 4, 7], [0, 6, 7]])
def test_a_query_sees_its_own_document(borders, causal):
    expected = by_loops(borders, borders, causal)
    assert torch.equal(found(borders, borders, causal), expected)
    own = {"cu_seq_lens_k": torch.tensor(borders)}
    assert torch.equal(found(borders, borders, causal, **own), expected)


@pytest.mark.parametrize("heads", [1, 2])
def test_what_a_mask_hides_stays_hidden(heads):
    mask = torch.rand(1, heads, 7, 7, generator=torch.Generator().manual_seed(0)) < 0.6
    borders = [0, 3, 4, 7]
    assert torch.equal(found(borders, borders, mask=mask), by_loops(borders, borders, False, mask))


def test_keys_may_have_borders_of_their_own():
    """As many documents of keys, each of another length: a cache, or an encoder's source."""
    of_query, of_key = [0, 2, 3, 7], [0, 4, 9, 10]
    own = {"cu_seq_lens_k": torch.tensor(of_key, dtype=torch.int32)}
    assert torch.equal(found(of_query, of_key, **own), by_loops(of_query, of_key, False))
