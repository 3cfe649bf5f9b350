"""How section "cost" is shown: one way of writing a divergence, and a summary."""

from dataclasses import replace
from typing import Any

from wideneck.audits.cost.results import Changes, CostAudit, Kind, OfCount, Predicted
from wideneck.audits.estimate import Estimate
from wideneck.report.cost import blocks, summary
from wideneck.report.parts import Table


def near(value):
    return Estimate(
        value=value,
        low=0.9 * value,
        high=1.1 * value,
        over="documents",
        num_groups=4,
        effective_groups=4.0,
    )


def kind(name, sort, megabytes, kl, moments=None):
    return Kind(
        name=name,
        sort=sort,
        about=name,
        num_bytes=int(megabytes * 1e6),
        share=megabytes / 56.6,
        kl=near(kl),
        nats=near(kl),
        top1=near(0.9),
        acceptance=near(0.9),
        rms_probability=0.01,
        changes=Changes(half=0.1, ninety=0.2, ninety_nine=0.3, thousandth=0.4, largest=0.5),
        predicted=Predicted(moments=moments, noise=None, change=kl),
        by_count=[OfCount(count="0", num_tokens=8, kl=kl, nats=kl, top1=0.9, acceptance=0.9)],
    )


CROWDED = CostAudit(
    num_fit_tokens=8,
    num_tokens=8,
    num_documents=4,
    bf16_bytes=56_600_000,
    concentration=0.3,
    kinds=[
        kind("bf16 logits", "logits", 56.6, 4.67e-4),
        kind("bf16", "format", 56.6, 2.55e-5),
        kind("fp8 tensor", "format", 28.3, 0.0393, 0.0406),
        kind("fp8 row", "format", 28.5, 0.0328),
        kind("fp8 128x128", "format", 28.3, 0.0367),
        kind("int8 row", "format", 28.5, 0.0015),
        kind("Q8_0", "format", 30.1, 0.0, 0.0),
        kind("Q5_0", "format", 19.5, 0.0212),
        kind("Q4_0", "format", 15.9, 0.0669),
        kind("nf4", "format", 15.9, 0.1848),
        kind("NVFP4", "format", 15.9, 0.1198),
        kind("MXFP4", "format", 15.0, 0.4946),
        kind("int4 g64", "format", 15.0, 0.2561),
        kind("Q4_0, GPTQ", "better", 15.9, 0.0166),
        kind("rank 144, bf16", "low rank", 14.3, 0.7001),
        kind("rank 144, int8 row", "low rank", 7.4, 0.7156),
        kind("rank 432, bf16", "low rank", 43.0, 0.0487),
        kind("rank 432, int8 row", "low rank", 21.7, 0.0533),
    ],
    trims=[],
    counted=100,
    dithered=[],
    choice=None,
    notes=[],
)


def table(audit, title):
    reference: Any = Anything()
    [found] = [b for b in blocks(audit, reference) if isinstance(b, Table) and b.caption == title]
    return {row[0]: row[2] for row in found.rows}


class Anything(dict):
    """A reference of which every number has the same caution."""

    def __missing__(self, path):
        return type("Entry", (), {"caution": "careful"})


def test_measured_and_predicted_are_written_alike():
    rows = table(CROWDED, "KL measured and predicted, nats")
    assert rows["fp8 tensor"] == ["0.0393", "0.0393", "", "0.0406"]
    assert rows["Q8_0"] == ["0", "0", "", "0"]
    assert rows["bf16"][:2] == ["2.55e-05", "2.55e-05"]
    assert table(CROWDED, "Rounded to nearest")["Q8_0"][3] == "[0, 0]"


def test_the_summary_says_what_eight_and_four_bits_cost():
    said = " ".join(summary(CROWDED))
    assert "0.0015 nats" in said
    assert "0.0669 nats" in said
    assert "int8 row" not in " ".join(summary(replace(CROWDED, kinds=CROWDED.kinds[:5])))
