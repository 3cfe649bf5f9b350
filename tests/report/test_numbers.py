"""How numbers, axes and curves are written."""

import pytest

from wideneck.audits.estimate import Estimate
from wideneck.report.axes import linear, logarithmic
from wideneck.report.numbers import basis, estimate, number, pretty, share, visible
from wideneck.report.reference import sentence
from wideneck.report.series_charts import step_axis
from wideneck.report.svg import thin


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (0, "0"),
        (0.0, "0"),
        (49152, "49,152"),
        (2.5828, "2.58"),
        (9.996, "10.0"),
        (507.32, "507"),
        (-30.98, "-31.0"),
        (49152.0, "49,200"),
        (7.72e-5, "7.72e-5"),
        (0.00585, "0.00585"),
        (1.5e9, "1.50e9"),
    ],
)
def test_number(x, text):
    assert number(x) == text


def test_share():
    assert share(0.8969) == "89.7 %"
    assert share(0.0) == "0 %"


@pytest.mark.parametrize(
    ("low", "value", "high", "text"),
    [
        (2.3712, 2.6005, 2.8298, "2.60 [2.37, 2.83]"),
        (-0.0024, 0.0084, 0.0194, "0.008 [-0.002, 0.019]"),
        (7000.0, 8250.0, 9500.0, "8,250 [7,000, 9,500]"),
        (None, 2.6005, None, "2.60"),
        (1.0, 1.0, 1.0, "1.00 [1.00, 1.00]"),
    ],
)
def test_an_estimate_shows_what_its_interval_grants(low, value, high, text):
    e = Estimate(
        value=value, low=low, high=high, over="documents", num_groups=2, effective_groups=2.0
    )
    assert estimate(e) == text


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("7.72e-5", "7.72\u00a0\N{MULTIPLICATION SIGN} 10<sup>\N{MINUS SIGN}5</sup>"),
        ("82af05e307", "82af05e307"),
        ("-0.5", "\N{MINUS SIGN}0.5"),
        ("SmolLM2-135M", "SmolLM2-135M"),
        ("s_0^2", "s<sub>0</sub><sup>2</sup>"),
        ("sum_j p_j", "sum<sub>j</sub> p<sub>j</sub>"),
        ("SmolLM2-135M-Instruct.Q4_1, Q8_0", "SmolLM2-135M-Instruct.Q4_1, Q8_0"),
        ("||W||_F", "||W||<sub>F</sub>"),
        ("2^-23", "2<sup>\N{MINUS SIGN}23</sup>"),
        ("kl_sigma2 >= 0", "kl_sigma2 ≥ 0"),
        ("<b>", "&lt;b&gt;"),
        ("89.7 %", "89.7\u00a0%"),
    ],
)
def test_pretty(text, html):
    assert pretty(text) == html


def test_what_does_not_print_is_spelt_out():
    assert visible("a\x1b\u202eb\n") == "a\\x1b\\u202eb\\n"
    assert visible("Ġword") == "Ġword"
    assert visible(None) == ""


@pytest.mark.parametrize(
    ("fragment", "text"),
    [
        ("mean over tokens", "Mean over tokens."),
        ("a matrix of", "A matrix of."),
        ("d / V: the share", "d / V: the share."),
        ("exp(H(p))", "exp(H(p))."),
        ("log V: the loss", "log V: the loss."),
        ("kl_sigma2 / log d", "kl_sigma2 / log d."),
        ("first_order + fisher", "first_order + fisher."),
        ("The proof.", "The proof."),
        ("", ""),
    ],
)
def test_definitions_become_sentences(fragment, text):
    assert sentence(fragment) == text


def test_ticks_say_where_they_are():
    assert [text for _, text in linear("", [0, 1]).ticks] == [
        "0.0", "0.2", "0.4", "0.6", "0.8", "1.0",
    ]  # fmt: skip
    assert [text for _, text in logarithmic("", [0.01, 30]).ticks] == ["0.01", "0.1", "1", "10"]
    assert [text for _, text in logarithmic("", [1, 20]).ticks] == ["1", "2", "5", "10", "20"]


@pytest.mark.parametrize("values", [[0.0], [3.0, 3.0], [-1.0, 2.0], [1e-9, 2e-9], [0.0, 1e6]])
def test_axes_hold_their_values(values):
    for axis in (linear("", values), logarithmic("", values)):
        assert axis.low < axis.high
        assert axis.ticks
        if not axis.log:
            assert axis.low <= min(values)
            assert axis.high >= max(values)


def test_step_0_has_a_place_on_a_logarithmic_axis():
    axis, drawn = step_axis([0, 1, 100, 143000])
    assert axis.log
    assert axis.ticks[0][1] == "0"
    assert 0 < drawn[0] < drawn[1]
    assert not step_axis([100, 1000])[0].log
    assert "order" in step_axis([0, 1, 2])[0].label


def test_thin_keeps_the_ends():
    points = list(range(5000))
    kept = thin(points)
    assert len(kept) < 220
    assert kept[:3] == [0, 1, 2]
    assert kept[-3:] == [4997, 4998, 4999]
    assert thin(points[:100]) == points[:100]


@pytest.mark.parametrize(
    ("num_groups", "worth", "low", "text"),
    [
        (8, 8.0, 1.0, "95 % intervals over 8 documents"),
        (1200, 1199.98, 1.0, "95 % intervals over 1,200 documents"),
        (4, 2.0738, 1.0, "95 % intervals over 4 documents, worth 2.1 of equal length"),
        (1, 1.0, None, "no 95 % interval: 1 document is one sample"),
        (
            4,
            1.206,
            None,
            "no 95 % interval: 4 documents, worth 1.2 of equal length, are too unequal for one",
        ),
    ],
)
def test_what_intervals_are_over_is_said_with_what_it_is_worth(num_groups, worth, low, text):
    e = Estimate(
        value=2.0, low=low, high=low, over="documents", num_groups=num_groups,
        effective_groups=worth,
    )  # fmt: skip
    assert basis(e) == text
