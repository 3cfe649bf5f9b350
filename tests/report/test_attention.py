"""The attention section: its maps, charts, tables and numbers, also of next to nothing."""

import dataclasses
import json
import xml.etree.ElementTree as ET

import pytest

from report.attention_examples import attention_audit
from report.examples import report
from wideneck.audits.attention.results import AttentionAudit
from wideneck.report import attention_numbers as shown
from wideneck.report.attention_charts import (
    critical_chart,
    length_charts,
    size_charts,
    step_chart,
)
from wideneck.report.attention_maps import heat_maps
from wideneck.report.heatmap import (
    FAINTEST,
    NAMED,
    Cell,
    HeatMap,
    around_zero,
    between,
    decades,
)
from wideneck.report.numbers import MINUS
from wideneck.report.parts import Panel

BARE = attention_audit(
    1, 1, sizes=(5,), lengths=(32,), temperatures=(1.0,), ablation=False, half=None,
    critical=False, comparison=False,
)  # fmt: skip
CASES = {
    "common": attention_audit(),
    "30 x 9": attention_audit(30, 9),
    "12 x 12": attention_audit(12, 12),
    "32 x 32": attention_audit(32, 32),
    "1 x 2": attention_audit(1, 2),
    "5 x 1": attention_audit(5, 1),
    "one of everything": BARE,
    "no closed form": attention_audit(closed_form=False, normalizer="sigmoid"),
    "no intervals": attention_audit(half=None),
    "nothing": dataclasses.replace(
        BARE, heads=[], by_size=[], by_length=[], by_step=[], links=[], num_layers=0
    ),
}


def panels(audit: AttentionAudit) -> list[Panel]:
    single = [step_chart(audit), critical_chart(audit)]
    several = [*heat_maps(audit), *length_charts(audit), *size_charts(audit)]
    return [*several, *(panel for panel in single if panel is not None)]


def cells_of(chart) -> list[ET.Element]:
    """The drawn heads, without the swatches of the scale."""
    return [
        cell for cell in ET.fromstring(chart.svg()).iter("path") if cell.find("title") is not None
    ]


@pytest.mark.parametrize("name", CASES)
def test_every_chart_is_xml_with_words_and_finite_places(name):
    for panel in panels(CASES[name]):
        root = ET.fromstring(panel.chart.svg())
        assert root[0].tag == "title"
        assert root[1].tag == "desc"
        assert panel.about.endswith(".")
        text = ET.tostring(root, encoding="unicode")
        assert "nan" not in text
        assert "inf" not in text


@pytest.mark.parametrize("name", CASES)
def test_every_map_has_one_named_cell_a_head_and_stays_inside(name):
    audit = CASES[name]
    for panel in heat_maps(audit):
        root = ET.fromstring(panel.chart.svg())
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        cells = cells_of(panel.chart)
        assert len(cells) == len(audit.heads)
        for cell in cells:
            left, top = map(float, cell.attrib["d"].split("h")[0].removeprefix("M").split())
            assert 0 < left < width
            assert 0 < top < height
        assert height < 450


def test_the_maps_are_the_six_that_describe_a_head():
    titles = [panel.chart.title for panel in heat_maps(CASES["common"])]
    assert titles == [
        "Spread of the weights",
        "Weight of the first key",
        "Separability, N = 5",
        "Distance, N = 5",
        "Jacobian",
        "Ablation",
    ]
    assert "Jacobian" not in [p.chart.title for p in heat_maps(CASES["no closed form"])]
    assert "Ablation" not in [p.chart.title for p in heat_maps(BARE)]


def test_a_head_without_a_value_is_drawn_empty_and_the_scale_says_so():
    cells = [Cell(1, 1, 0.5, "0.5"), Cell(1, 2, None, "none"), Cell(7, 1, 0.0, "0")]
    drawn = cells_of(HeatMap("map", "of three", between(0, 1), cells))
    svg = HeatMap("map", "of three", between(0, 1), cells).svg()
    assert ["missing" in cell.attrib.get("class", "") for cell in drawn] == [False, True, False]
    assert float(drawn[2].attrib["fill-opacity"]) == FAINTEST
    assert ">none</text>" in svg
    assert ">7</text>" in svg  # the layer's own number, though it is the second that has heads


def test_what_a_map_says_is_escaped():
    svg = HeatMap("<b>", "a & b", between(0, 1), [Cell(1, 1, 0.5, "<i>")]).svg()
    assert "<b>" not in svg
    assert "<i>" not in svg
    ET.fromstring(svg)


def test_a_map_of_thousands_of_heads_names_none():
    cells = [Cell(1 + i // 64, 1 + i % 64, 0.5, "0.5") for i in range(NAMED + 1)]
    assert not cells_of(HeatMap("map", "of many", between(0, 1), cells))


@pytest.mark.parametrize("values", [[], [0.0], [0.0, 3.0], [2.0, 2.0], [1e-7, 5e4]])
def test_a_logarithmic_scale_holds_its_values_and_spans_a_decade(values):
    scale = decades(values)
    assert scale.high >= 10 * scale.low > 0
    assert all(0 <= scale.strength(value) <= 1 for value in values)


def test_one_strong_head_does_not_blind_the_scale_around_zero():
    scale = around_zero([*[0.001 * i for i in range(-10, 30)], 5.0], "nats")
    assert scale.high < 0.05
    assert scale.high_text == f"≥ {scale.high:g} nats"
    assert scale.low_text == f"{MINUS}{scale.high:g}"
    assert scale.strength(5.0) == 1
    assert -1 < scale.strength(-0.01) < 0
    assert around_zero([]).high > 0
    assert around_zero([0.0] * 30 + [2.0]).high == 2.0


def test_a_bound_below_zero_is_drawn_at_zero_and_said():
    _, panel = size_charts(CASES["common"])
    lower = next(line for line in panel.chart.lines if line.name == "lower")
    assert min(lower.y) == 0
    assert lower.hollow == {1, 2, 3, 4}
    assert "below 0 at N = 5, 10, 20, 100 (down to -2.70)" in panel.about
    points = [
        dataclasses.replace(point, separability_lower=0.1) for point in CASES["common"].by_size
    ]
    _, panel = size_charts(dataclasses.replace(CASES["common"], by_size=points))
    assert "below" not in panel.about


def test_boxes_stand_at_the_five_numbers():
    _, panel = size_charts(CASES["common"])
    s = CASES["common"].by_size[0].separability
    numbers = (s.lowest, s.quarter, s.median, s.three_quarters, s.highest)
    assert panel.chart.boxes[0].numbers == numbers
    assert panel.chart.svg().count('class="box') == len(CASES["common"].by_size)


def test_effective_keys_are_beside_those_of_uniform_weights():
    keys, _ = length_charts(CASES["common"])
    uniform, found = keys.chart.lines
    assert uniform.y[0] == sum(range(17, 33)) / 16
    assert found.band
    assert 'class="band' in keys.chart.svg()


def test_a_distance_that_no_query_has_is_left_out():
    assert len(length_charts(BARE)) == 1
    _, distance = length_charts(CASES["common"])
    assert min(distance.chart.lines[0].x) == 64


def test_the_sensitivity_shows_each_step_both_bounds_and_the_model_s_own_temperature():
    panel = step_chart(CASES["common"])
    assert panel is not None
    names = [line.name for line in panel.chart.lines if line.name]
    assert names == ["ε = 0.001", "ε = 0.1", "ε = 10", "spectral", "paper"]
    assert [rule.name for rule in panel.chart.rules] == ["own T = 8"]
    assert step_chart(CASES["no closed form"]) is None


def test_a_softmax_that_underflows_leaves_a_readable_axis():
    points = [
        dataclasses.replace(point, largest_head=0.0 if point.step > 1 else 1e-60)
        for point in CASES["common"].by_step
    ]
    panel = step_chart(dataclasses.replace(CASES["common"], by_step=points))
    assert panel is not None
    assert panel.chart.y.high / panel.chart.y.low < 1e10
    ET.fromstring(panel.chart.svg())


def test_the_scan_says_which_n_it_found():
    panel = critical_chart(CASES["common"])
    assert panel is not None
    assert "Monte Carlo 17 (3.32 % of the context); derived main term none up to 40" in panel.about
    table = shown.critical_table(CASES["common"])
    assert table is not None
    assert [cells[0] for _, _, cells in table.rows] == ["17", "none up to 40", "23"]


def test_the_strongest_heads_come_first_and_no_more_than_twelve():
    table = shown.strongest_table(CASES["30 x 9"])
    assert table is not None
    assert len(table.rows) == 12
    assert table.rows[0][0] == "layer 1, head 1"
    losses = [float(cells[0]) for _, _, cells in table.rows]
    assert losses == sorted(losses, reverse=True)


def test_tables_of_what_was_not_measured_are_none():
    for name in ("strongest", "link", "comparison"):
        assert getattr(shown, f"{name}_table")(CASES["nothing"]) is None
    assert shown.curve_tables(CASES["nothing"]) == [None, None, None]
    assert shown.critical_table(BARE) is None


def test_numbers_stand_beside_what_uniform_weights_or_chance_would_give():
    found = {row.label: row for row in shown.attention_numbers(CASES["30 x 9"])}
    assert found["effective keys, median"].baselines == ("256 visible, mean",)
    assert found["first key's weight, median"].baselines == ("0.0114 uniform",)
    assert found["ablation, interval above 0"].baselines == ("about 6.8 by chance",)
    assert found["ablation, largest loss"].baselines == ("layer 1, head 1",)
    assert found["Jacobian norm, median"].baselines == ("0.500 max",)
    assert found["distance, N = 5, mean"].baselines == ("3.29 expected", "258 derived bound")
    assert found["critical N, derived main term"].value == "none"


def test_json_holds_the_section_with_its_definitions():
    found = json.loads(report(None, None, CASES["common"]).to_json_text())
    assert found["head"] is None
    assert found["attention"]["heads"][0]["ablation"]["value"] == 0.7
    definitions = found["definitions"]
    assert "plain mean" in definitions["attention.heads[].ablation"]["definition"]
    assert definitions["attention.by_size[].distance_by_head"]["definition"]
    assert definitions["attention.loss.low"]["definition"]


def test_the_limit_of_a_softmax_is_claimed_for_no_other_normalizer():
    audit = attention_audit(normalizer="sparsemax")
    found = {row.label: row for row in shown.attention_numbers(audit)}
    assert found["Jacobian norm, median"].baselines == ()
    panel = next(p for p in heat_maps(audit) if p.chart.title == "Jacobian")
    assert "1/2" not in panel.about
    wild = [dataclasses.replace(head, jacobian_spectral=9.4) for head in audit.heads]
    panel = next(
        p for p in heat_maps(dataclasses.replace(audit, heads=wild)) if p.chart.title == "Jacobian"
    )
    assert isinstance(panel.chart, HeatMap)
    assert panel.chart.scale.high == 9.4


def test_a_terminal_s_columns_hold_the_numbers():
    for audit in CASES.values():
        for row in shown.attention_numbers(audit):
            assert len(row.detail) <= 16, row
