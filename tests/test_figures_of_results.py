"""What docs/results.md says of its own tables follows from them."""

import math
import re

import pytest
from scipy.special import stdtrit

from pages import ROOT
from wideneck.lab.spread import paired, seeds_to_see

TEXT = (ROOT / "docs" / "results.md").read_text()
SEEDS = 3


def table(begins, after=""):
    """Rows of a printed table, by their first column, as the numbers that stand in them."""
    start = TEXT.index(begins, TEXT.index(after))
    rows = {}
    for line in TEXT[start:].splitlines()[1:]:
        if not line.strip() or line == "```":
            break
        name, *cells = re.split(r"\s{2,}", line.strip())
        if cells and re.match(r"[*+-]?\d\S*(?: ±.*)?$", cells[0]):
            rows.setdefault(name, [cell.lstrip("*") for cell in cells])
    return rows


def plain(text):
    return " ".join(text.split())


def test_how_far_below_the_bound_the_mixtures_are():
    rows = table('"topics", log-probabilities of rank 64: KL')
    bound = [float(cell) for cell in rows["softmax's bound"]]
    below = {
        name: [b / float(cell) for b, cell in zip(bound, rows[name], strict=True)]
        for name in ("MoS", "MoSS", "PLIF")
    }
    assert [round(below["MoSS"][1]), round(below["MoS"][1])] == [5, 17]
    assert [round(below["MoS"][2]), round(below["MoSS"][2])] == [5, 6]
    last = [f"{below[name][3]:.1f}" for name in ("MoS", "MoSS")]
    assert last == ["1.6", "1.7"]
    assert "5 to 17 times below that bound at d = 4 and 8, 1.6 and 1.7 times at d = 16" in TEXT
    assert (
        "at d = 8 they are 5 and 6 times below the bound, at d = 16 only 1.6 and 1.7 times"
        in plain(TEXT)
    )
    assert [f"{ratio:.2g}" for ratio in below["PLIF"][1:]] == ["19", "4.3", "1.1"]


def test_how_far_above_the_bound_the_best_softmax_is():
    ratios = []
    for language in ("topics", "softmax"):
        rows = table(f'"{language}", log-probabilities')
        for head, bound in (("softmax", "softmax's bound"), ("softmax, matched", "its bound")):
            pairs = zip(rows[head], rows[bound], strict=True)
            ratios += [float(kl) / float(b) for kl, b in pairs if float(b)]
    assert f"{min(ratios):.0f} to {max(ratios):.0f} times above it" in TEXT


def test_the_seeds_that_would_tell_are_those_of_the_function():
    found = re.search(
        r"needs (\d+) seeds to see ([\d.]+) nats on the transformer \(spread ([\d.]+)\) and (\d+) "
        r"on the LSTM \(spread ([\d.]+)\)",
        plain(TEXT),
    )
    on_transformer, effect, spread, on_lstm, other = found.groups()
    assert seeds_to_see(float(effect), float(spread)) == int(on_transformer)
    assert seeds_to_see(float(effect), float(other)) == int(on_lstm)
    for heading, expected in (("A small transformer", spread), ("A small AWD-LSTM", other)):
        row = table("Test loss minus", f"### {heading}")["sigsoftmax"]
        assert row[0].split(" ± ")[1] == expected


def test_one_comparison_of_twelve_and_all_of_them_at_once():
    rows = table("Test loss minus that of the softmax", "### A small AWD-LSTM")
    mean, spread = map(float, rows["PLIF"][0].split(" ± "))
    assert len(rows) == 12
    one, all_ = (
        stdtrit(SEEDS - 1, 1 - 0.025 / k) * spread / math.sqrt(SEEDS) for k in (1, len(rows))
    )
    assert [f"{mean - one:.3f}", f"{mean + one:.3f}"] == ["-0.099", "-0.044"]
    assert f"\N{MINUS SIGN}{all_ - mean:.3f} to +{mean + all_:.3f} and holds 0" in plain(TEXT)
    assert f"{all_ / one:.1f} times as wide" in plain(TEXT)


@pytest.mark.parametrize("heading", ["A small AWD-LSTM", "A small transformer"])
def test_the_intervals_are_those_of_the_means_and_deviations(heading):
    """Rebuilt from three differences of that mean and deviation."""
    for row in table("Test loss minus", f"### {heading}").values():
        mean, spread = map(float, row[0].split(" ± "))
        found = paired([mean - spread, mean, mean + spread])
        low, high = map(float, row[1].strip("[]").split(", "))
        assert found.low == pytest.approx(low, abs=3e-4)
        assert found.high == pytest.approx(high, abs=3e-4)
