"""The numbers of the saturation paper, as they are shipped."""

import math

import pytest

from wideneck.lab.published import STATUSES, published_results
from wideneck.lab.saturation.ngrams import DIMENSIONS


@pytest.fixture(scope="module")
def published():
    return published_results("saturation")


def test_every_number_says_how_it_was_checked(published):
    assert "2404.07647" in published.url
    assert {result.status for result in published.results} == {"verified", "figure"}
    assert {claim.status for claim in published.claims} <= set(STATUSES)
    for result in published.results:
        assert (result.status == "figure") == result.table.startswith("Figure")


def test_table_1_is_whole(published):
    rows = published.find(table="Table 1")
    best, final = (
        {r.measure: r.value for r in rows if name in r.row} for name in ("best", "final")
    )
    assert len(best) == len(final) == 6
    for measure, value in best.items():  # the final checkpoint is worse at everything
        assert (final[measure] > value) == ("perplexity" in measure)


@pytest.mark.parametrize(("data", "d"), [("Pythia-410M", 1024), ("Pythia-1B", 2048)])
def test_a_head_of_higher_rank_is_never_worse(published, data, d):
    losses = published.find(table="Figure 6", data=data, measure="loss, nats")
    accuracies = published.find(table="Figure 6", data=data, measure="accuracy, %")
    assert losses[-1].row == f"r = {d} = d"
    for rows, sign in ((losses, -1), (accuracies, 1)):
        values = [sign * row.value for row in rows]
        assert values == sorted(values)


def test_figure_8_repeats_the_losses_of_figure_6(published):
    """The same heads, read off twice; the readings differ at one of them, by half a hundredth."""
    eight = published.find(table="Figure 8", measure="loss, nats")
    six = published.find(table="Figure 6", data="Pythia-1B", measure="loss, nats")
    assert [row.row for row in eight] == [row.row for row in six]
    apart = {a.row: round(a.value - b.value, 4) for a, b in zip(eight, six, strict=True)}
    assert {row: gap for row, gap in apart.items() if gap} == {"r = 64": 0.005}


CURVES = [
    ("Figure 7", "the Pile and WikiText, Llama-2 tokenizer", 4),
    ("Figure 7", "IMDb, Llama-2 tokenizer", 3),
    ("Figure 7", "the Pile and WikiText, Pythia tokenizer", 6),
    ("Figure 7", "IMDb, Pythia tokenizer", 3),
    ("Figure 8", "Pythia-1B", 8),
]


@pytest.mark.parametrize(("table", "data", "num"), CURVES)
def test_squared_w_errors_fall_from_1_and_ever_more_slowly(published, table, data, num):
    """They are what is left of the squared singular values, of which the largest go first."""
    rows = [row for row in published.find(table=table, data=data) if "W-error" in row.measure]
    assert len(rows) == num
    sizes = [0, *(int(row.row.split()[2]) for row in rows)]
    left = [1.0, *(row.value**2 for row in rows)]
    slopes = [(left[k + 1] - left[k]) / (sizes[k + 1] - sizes[k]) for k in range(num)]
    assert slopes == sorted(slopes)
    assert slopes[-1] < 0 <= left[-1]


def test_ours_is_told_at_every_dimension_where_figure_7_was_read(published):
    """Or a row of the table would have nothing beside it."""
    rows = published.find(table="Figure 7")
    assert {int(row.row.removeprefix("d = ")) for row in rows} <= set(DIMENSIONS)
    assert sorted(set(DIMENSIONS)) == list(DIMENSIONS)


def test_final_entropies_leave_the_small_models_one_or_two_directions(published):
    """log d less the entropy, a KL from uniform, is that of equal singular values so many."""
    final = published.find(table="Figure 5", measure="final singular entropy, nats")
    widths = (128, 256, 512, 768, 1024)
    left = [math.exp(math.log(d) - row.value) for d, row in zip(widths, final, strict=True)]
    assert [row.row for row in final] == [f"Pythia-{n}M" for n in (14, 31, 70, 160, 410)]
    assert left == pytest.approx([1.2, 1.22, 2.09, 2.44, 609], rel=5e-3)
