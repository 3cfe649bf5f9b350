"""The memory section: its chart, tables, numbers and sentences, also of next to nothing."""

import json
import xml.etree.ElementTree as ET

import pytest

from report.examples import report
from report.memory_examples import memory_audit
from wideneck.report import memory_numbers as shown
from wideneck.report.memory import summary

CASES = {
    "common": memory_audit(),
    "80 layers": memory_audit(80),
    "layers unknown": memory_audit(0),
    "no intervals": memory_audit(half=None),
    "no caches": memory_audit(caches=False, elsewhere=False),
    "no cache helped": memory_audit(helped=False),
    "no target in the context": memory_audit(ranked=False),
}


@pytest.mark.parametrize("name", CASES)
def test_the_chart_is_xml_with_words_and_finite_places(name):
    chart = shown.rank_chart(CASES[name])
    if chart is None:
        assert name == "no target in the context"
        return
    root = ET.fromstring(chart.svg())
    assert [root[0].tag, root[1].tag] == ["title", "desc"]
    text = ET.tostring(root, encoding="unicode")
    assert "nan" not in text
    assert "inf" not in text


def test_the_chart_has_both_similarities_and_every_baseline():
    chart = shown.rank_chart(CASES["common"])
    assert chart is not None
    assert [line.name for line in chart.lines] == ["dot", "cosine"]
    level = [rule.name for rule in chart.rules if not rule.vertical]
    assert level == ["recency", "frequency", "token identity", "chance"]
    assert all(len(line.y) == 5 for line in chart.lines)


def test_tables_hold_every_layer_cache_and_baseline():
    audit = CASES["80 layers"]
    layers, baselines = shown.layer_table(audit), shown.baseline_table(audit)
    caches, fitted = shown.cache_table(audit), shown.fitted_table(audit)
    assert layers is not None
    assert len(layers.rows) == 82
    assert baselines is not None
    assert len(baselines.rows) == 4
    assert caches is not None
    assert [name for name, _, _ in caches.rows][-1] == "as published, untrained"
    assert len(caches.rows) == 7
    assert fitted is not None
    assert len(fitted.rows) == 6
    assert [name for name, _, _ in shown.distance_table(audit).rows] == ["1 to 8", "129 and more"]


def test_tables_of_what_was_not_measured_are_none():
    nothing = CASES["no target in the context"]
    assert shown.layer_table(nothing) is None
    assert shown.baseline_table(nothing) is None
    assert shown.cache_table(CASES["no caches"]) is None
    assert shown.fitted_table(CASES["no caches"]) is None


def test_numbers_stand_beside_their_baselines():
    found = {row.label: row for row in shown.memory_numbers(CASES["common"])}
    assert found["next token in the context"].value == "60.3 %"
    assert found["next token in the context"].baselines == ("39.0 % other text",)
    assert found["reciprocal rank, into head"].baselines == (
        "0.100 recency",
        "0.210 frequency",
        "0.330 token identity",
        "0.0520 chance",
    )
    assert found["cache gain, joint"].value == "0.005"
    assert found["cache gain, joint"].baselines == ("-0.005 counts", "0.015 same token")
    assert found["cache gain, as published"].value == "-31.800"
    assert found["cache gain, as published"].baselines == ("0 without a cache",)
    assert "best layer, by cosine" not in found  # the last one is the best


def test_sentences_say_what_was_measured_and_nothing_else():
    text = " ".join(summary(CASES["common"]))
    for expected in ("60.3 % stand in the context", "39.0 %", "0.44", "-0.005", "without training"):
        assert expected in text
    text = " ".join(summary(memory_audit(ranked=False, caches=False)))
    assert "rank" not in text
    assert "cache" not in text


def test_json_holds_the_section_with_its_definitions():
    found = json.loads(report(None, None, memory=CASES["common"]).to_json_text())
    assert found["attention"] is None
    assert found["memory"]["gain"]["caches"][1]["theta"] == 0.58
    definitions = found["definitions"]
    assert "without training" in definitions["memory.gain.caches[].gain"]["caution"]
    assert definitions["memory.layers[].dot.reciprocal_rank.low"]["definition"]
