import os

import pytest

from wideneck.errors import WideneckError
from wideneck.papers.side_by_side import UNITS, side_by_side


def squared(job, show):
    show(0.5)
    return job * job


def dies(job, show):
    os._exit(3)


@pytest.mark.parametrize("processes", [1, 2])
def test_every_job_comes_back_with_its_result_and_all_progress_is_told(processes):
    told = []

    results = dict(
        side_by_side(
            squared,
            [1, 2, 3],
            lambda units, total: told.append((units, total)),
            processes=processes,
        )
    )

    assert results == {1: 1, 2: 4, 3: 9}
    assert all(total == 3 * UNITS for _, total in told)
    assert [units for units, _ in told] == sorted(units for units, _ in told)


def test_a_process_that_dies_is_one_sentence():
    with pytest.raises(WideneckError, match="the finished ones are kept"):
        list(side_by_side(dies, [1, 2], lambda units, total: None, processes=2))


def test_no_jobs_need_no_process():
    assert list(side_by_side(squared, [], lambda units, total: None)) == []
