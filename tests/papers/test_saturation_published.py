"""The numbers of the saturation paper, as they are shipped."""

import pytest

from wideneck.papers.published import STATUSES, published_results
from wideneck.papers.saturation.ngrams import DIMENSIONS


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
    eight = published.find(table="Figure 8", measure="loss, nats")
    six = published.find(table="Figure 6", data="Pythia-1B", measure="loss, nats")
    assert [row.row for row in eight] == [row.row for row in six]
    assert [row.value for row in eight] == pytest.approx([row.value for row in six], abs=0.01)


def test_w_errors_fall_with_the_dimension(published):
    for data in {row.data for row in published.find(table="Figure 7")}:
        values = [row.value for row in published.find(table="Figure 7", data=data)]
        assert values == sorted(values, reverse=True)
        assert 0 < values[-1] < values[0] < 1


def test_ours_is_told_at_every_dimension_where_figure_7_was_read(published):
    """Or a row of the table would have nothing beside it."""
    rows = published.find(table="Figure 7")
    assert {int(row.row.removeprefix("d = ")) for row in rows} <= set(DIMENSIONS)
    assert sorted(set(DIMENSIONS)) == list(DIMENSIONS)


def test_final_entropies_are_below_their_ceilings_only_the_small_models_near_them(published):
    final = published.find(table="Figure 5", measure="final singular entropy, nats")
    ceilings = {"14M": 4.85, "31M": 5.55, "70M": 6.24, "160M": 6.64}
    for row in final:
        name = row.row.removeprefix("Pythia-")
        if name in ceilings:
            assert 0.8 < row.value / ceilings[name] < 1
    assert final[-1].value < 1
