import pytest
import torch

from wideneck.functional.gram import gram
from wideneck.functional.items import per_item

NONE = [0, 0.0, torch.tensor(0), torch.tensor(0.0), torch.zeros((), dtype=torch.int32)]
SOME = [3, 0.25, torch.tensor(3), torch.tensor(0.25)]


@pytest.mark.parametrize("count", NONE)
def test_of_no_items_a_sum_stays_and_so_does_its_gradient(count):
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    found = per_item(0 * x.sum(), count)
    found.backward()
    assert found == 0
    assert x.grad.tolist() == [0, 0]
    assert per_item(0.0, count) == 0
    assert per_item(torch.tensor(6.0), count) == per_item(6.0, count) == 6


@pytest.mark.parametrize("count", SOME)
def test_of_some_items_it_is_the_quotient_even_below_one(count):
    assert per_item(torch.tensor(6.0), count) == 6 / count
    assert per_item(6.0, count) == 6 / count


def test_each_place_has_a_count_of_its_own():
    found = per_item(torch.tensor([0.0, 6.0, 6.0]), torch.tensor([0, 2, 1]))
    assert found.tolist() == [0, 3, 6]


def test_a_count_that_is_no_number_stays_visible():
    assert per_item(torch.tensor(1.0), torch.tensor(torch.nan)).isnan()


def test_the_mean_row_of_no_rows_is_zero():
    mean, matrix = gram(torch.randn(5, 3), rows=torch.zeros(0, dtype=torch.long))
    assert mean.tolist() == [0, 0, 0]
    assert matrix.abs().sum() == 0
