import pytest
import torch

from memory.slow_memory import slow_sees
from wideneck import memory as m


def padded(length, left, right):
    valid = torch.ones(1, length, dtype=torch.bool)
    valid[:, :left] = False
    valid[:, length - right :] = False
    return valid


@pytest.mark.parametrize("window", [None, 1, 3])
@pytest.mark.parametrize(("left", "right"), [(0, 0), (3, 0), (0, 2)])
@pytest.mark.parametrize("bordered", [False, True])
def test_a_position_sees_what_the_definition_says(window, left, right, bordered):
    valid = padded(9, left, right)
    document = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 2, 2]]) if bordered else None

    seen = m.visible_history(valid, window=window, document=document)

    for i in range(9):
        for j in range(8):
            own = None if document is None else document[0].tolist()
            want = slow_sees(i, j, valid[0].tolist(), window=window, document=own)
            assert bool(seen[0, i, j]) is want, (i, j)


def test_the_last_queries_see_what_they_see_among_all():
    valid = torch.tensor([[False, False, True, True, True, True, True]])
    every = m.visible_history(valid, window=3)

    torch.testing.assert_close(m.visible_history(valid, 2, window=3), every[:, -2:])


def test_no_position_sees_the_token_that_it_predicts():
    """Memory i of query i holds the label."""
    seen = m.visible_history(torch.ones(2, 6, dtype=torch.bool))

    assert not seen[:, :, :].triu(0)[:, :5].any()
    assert seen[:, 3].sum(-1).tolist() == [3, 3]


def test_one_token_has_an_empty_memory():
    assert m.visible_history(torch.ones(2, 1, dtype=torch.bool)).shape == (2, 1, 0)


def test_a_separator_opens_a_document():
    """Nothing of the old text serves to predict the first token of the new one."""
    ids = torch.tensor([[5, 6, 0, 5, 6]])
    document = m.documents(ids, 0)
    assert document.tolist() == [[0, 0, 1, 1, 1]]

    seen = m.visible_history(torch.ones_like(ids, dtype=torch.bool), document=document)

    assert seen[0, 2].tolist() == [False] * 4
    assert seen[0, 4].tolist() == [False, False, True, True]


def test_similarities_are_scaled_dot_products_and_never_narrower_than_float32():
    q, k = torch.randn(2, 3, 16, dtype=torch.float64), torch.randn(2, 5, 16, dtype=torch.float64)
    torch.testing.assert_close(m.similarities(q, k), torch.einsum("bqd,bkd->bqk", q, k) / 4)

    large = torch.full((1, 1, 64), 200.0, dtype=torch.float16)  # the product overflows float16
    assert m.similarities(large, large).dtype == torch.float32
    assert m.similarities(large, large).item() == 320_000
