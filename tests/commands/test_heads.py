"""The table of output layers."""

import io

import pytest
from rich.console import Console

from wideneck.commands.heads import rows, show
from wideneck.config import HEADS


def text(width, hidden_size=576, vocab_size=49152):
    console = Console(file=io.StringIO(), width=width)
    show(hidden_size, vocab_size, console)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 140])
def test_every_text_stands_on_a_line_of_its_own(width):
    lines = [line.rstrip() for line in text(width).splitlines()]
    assert max(map(len, lines)) <= width
    for head in HEADS.values():
        for part in (head.formula, head.cost, head.paper if head.paper != "-" else ""):
            assert any(line.endswith(part) for line in lines), part


def test_the_numbers_are_those_of_the_sizes():
    table = {row["name"]: row for row in rows(576, 49152)}
    assert table["softmax"]["rank_bound"] == 577
    assert table["softmax"]["rank_bound_with_bias"] == 578
    assert table["moss"]["rank_bound"] == 49152
    assert table["moss"]["parameters_added"] == 4 * 576 * 578
    assert table["moss"]["options"]["activation"]["name"] == "sigsoftmax"
    assert table["plif"]["parameters_added"] == 99_999
    assert "K d (d + 2) " in text(80)
    assert "= 1,331,712" in text(80)


def test_a_small_vocabulary_is_the_bound_of_all():
    assert "  d + 1  " in text(80)
    assert "  d + 1  " not in text(80, 64, 32)
