"""What goes through the boundary around strangers' files and models, and what does not."""

import pytest

from wideneck.errors import WideneckError
from wideneck.files.boundary import failing, ours, reading


def test_what_a_stranger_raises_is_one_sentence_with_its_cause():
    with pytest.raises(WideneckError, match=r"^x: its header cannot be read \(division") as raised:
        with reading("x", "its header", "give another"):
            1 / 0  # noqa: B018
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_what_our_own_code_raises_inside_goes_through_every_boundary_as_it_is():
    with pytest.raises(ZeroDivisionError):
        with failing(str), reading("x", "its header", "give another"), ours():
            1 / 0  # noqa: B018


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory: 9 bytes")])
def test_memory_that_is_not_there_is_nobody_s_mistake(error):
    with pytest.raises(WideneckError, match="does not fit the memory of this machine"):
        with reading("x", "its header", "give another"), ours():
            raise error


def test_a_sentence_of_our_own_code_stays_what_it_is():
    with pytest.raises(WideneckError, match=r"^give less$"):
        with reading("x", "its header", "give another"), ours():
            raise WideneckError("give less")
