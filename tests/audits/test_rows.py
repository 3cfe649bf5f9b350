"""Rows that no text trained."""

import torch

from wideneck.audits.rows import special_rows


def ids(refs):
    return [ref.token for ref in refs]


def head(num_rows=300, d=64):
    return torch.randn(num_rows, d, generator=torch.Generator().manual_seed(0))


def test_equal_rows_are_grouped_in_any_storage_type():
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        weight = head().to(dtype)
        weight[[40, 200]] = weight[7].clone()
        weight[299] = weight[8].clone()
        assert [ids(g) for g in special_rows(weight, None).duplicates] == [[7, 40, 200], [8, 299]]


def test_equal_rows_with_different_biases_are_told_apart():
    weight, bias = head(), torch.zeros(300)
    weight[[40, 200]] = weight[7].clone()
    bias[40] = 1.0
    assert [ids(g) for g in special_rows(weight, None, bias).duplicates] == [[7, 200]]


def test_an_id_that_no_token_has_counts_as_beyond_the_tokenizer():
    tokens = [f"t{i}" for i in range(300)]
    tokens[50] = None
    found = special_rows(head(), tokens[:290] + [None] * 5 + tokens[295:])
    assert ids(found.beyond_tokenizer) == [50, 290, 291, 292, 293, 294]


def test_rows_beyond_the_tokenizer_have_no_string():
    found = special_rows(head(), [f"t{i}" for i in range(296)])
    assert ids(found.beyond_tokenizer) == [296, 297, 298, 299]
    assert {ref.string for ref in found.beyond_tokenizer} == {None}


def test_rows_near_the_padding_are_called_undertrained():
    weight = head()
    weight[290:] = 0.01 * torch.randn(10, 64, generator=torch.Generator().manual_seed(1)) + 0.3
    found = special_rows(weight, [f"t{i}" for i in range(297)])
    assert ids(found.undertrained) == list(range(290, 300))
    assert found.undertrained[0].string == "t290"
    assert found.excluded == list(range(290, 300))


def test_without_a_row_to_compare_with_nothing_is_claimed():
    found = special_rows(head(), None)
    assert found.beyond_tokenizer is None
    assert found.undertrained is None
    assert found.excluded == []


def test_of_duplicates_all_but_the_first_are_left_out_if_nothing_else_speaks_against_them():
    weight = head()
    weight[40] = weight[7].clone()
    found = special_rows(weight, [f"t{i}" for i in range(300)])
    assert ids(found.duplicates[0]) == [7, 40]
    # The duplicated rows are their own reference: both count as undertrained.
    assert ids(found.undertrained) == [7, 40]
    assert found.excluded == [7, 40]
