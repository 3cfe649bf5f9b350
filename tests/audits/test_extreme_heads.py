"""Heads at the ends of their type: every face of the report is written, and scale changes nothing.

Measures that do not depend on the scale of a head must be those of the unscaled one; what float64
cannot hold is NaN in its place, "not measurable" to a reader and null in JSON.
"""

import dataclasses
import io
import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from report.examples import report, series
from wideneck.audits.clock import Clock
from wideneck.audits.head import HeadAudit, audit_head
from wideneck.audits.scale import directions, lengths, power_for
from wideneck.errors import WideneckError
from wideneck.models import HeadWeights
from wideneck.report.numbers import UNMEASURED
from wideneck.report.series import SeriesPoint
from wideneck.report.terminal import show

V, D = 24, 4
SCALE_FREE = (
    "kl_sigma2",
    "kl_sigma2_share",
    "kl_sigma",
    "effective_rank",
    "effective_rank_sigma2",
    "stable_rank",
    "participation_ratio",
    "numerical_rank",
    "w_error",
)


def rows() -> torch.Tensor:
    weight = torch.randn(V, D, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    weight[5] = weight[8:20].mean(0)  # cannot win
    weight[7] = weight[6]
    return weight + 0.3


def audited(weight: torch.Tensor) -> HeadAudit:
    head = HeadWeights(
        weight=weight,
        bias=None,
        name="lm_head.weight",
        dtype=str(weight.dtype),
        rounding=torch.finfo(weight.dtype).eps,
        tied=False,
        tying="a tensor of its own",
        sha256="0" * 64,
        tokens=[f"token{i}" for i in range(len(weight) - 1)],
        model="a model",
    )
    return audit_head(head, Clock(), second_moment=torch.eye(weight.shape[1]).double())


def no_constant(name: str):
    raise AssertionError(f"{name} is not JSON")


def shown(function, found, width: int) -> str:
    stream = io.StringIO()
    function(found, Console(file=stream, width=width))
    return stream.getvalue()


def faces(head: HeadAudit) -> tuple[dict, str, str]:
    """JSON, HTML and terminal; each written whole, and none with a NaN in it."""
    found = report(head, None)
    data = json.loads(found.to_json_text(), parse_constant=no_constant)
    page, text = found.to_html_text(), shown(show, found, 100)
    for face in (page, text):
        words = face.replace(">", " ").replace("<", " ").replace('"', " ").split()
        assert not {"nan", "inf", "-inf"} & {word.strip("[],%") for word in words}
    paths = [part.split('"')[0] for part in page.split(' d="')[1:]]
    assert not any("n" in path for path in paths), "a curve through nothing"
    return data["head"], page, text


def assert_free_of_scale(found: HeadAudit, plain: HeadAudit, rel: float) -> None:
    for gauge in ("raw", "centred", "data_weighted"):
        ours, expected = (getattr(h.spectrum, gauge) for h in (found, plain))
        for name in SCALE_FREE:
            assert getattr(ours, name) == pytest.approx(getattr(expected, name), rel, abs=rel)
    for name in ("mean_row_share",):
        assert getattr(found, name) == pytest.approx(getattr(plain, name), rel)
    for name in ("cosines", "cosines_centred"):
        for field, value in dataclasses.asdict(getattr(plain, name)).items():
            assert getattr(getattr(found, name), field) == pytest.approx(value, rel, abs=rel)
    assert [r.token for r in found.rows.undertrained or ()] == [
        r.token for r in plain.rows.undertrained or ()
    ]
    assert found.rows.excluded == plain.rows.excluded
    assert found.argmaxable is not None
    assert plain.argmaxable is not None
    assert [u.token for u in found.argmaxable.unargmaxable] == [
        u.token for u in plain.argmaxable.unargmaxable
    ]
    assert found.argmaxable.undecided == []


PLAIN = audited(rows())


@settings(max_examples=8, deadline=None)
@given(st.integers(-1018, 1020))
def test_a_float64_head_measures_the_same_at_every_power_of_two(exponent):
    weight = rows() * 2.0 ** (exponent // 2) * 2.0 ** (exponent - exponent // 2)
    head = audited(weight)
    data, _, _ = faces(head)
    assert_free_of_scale(head, PLAIN, 1e-9)
    assert head.notes == data["notes"] == []
    ratio = [math.ldexp(s, -exponent) for s in head.spectrum.raw.singular_values]
    assert ratio == pytest.approx(PLAIN.spectrum.raw.singular_values, rel=1e-9)
    longest = math.ldexp(head.row_norms.maximum, -exponent)
    assert longest == pytest.approx(PLAIN.row_norms.maximum, rel=1e-9)


@pytest.mark.parametrize(
    ("dtype", "scale", "rel"),
    [
        (torch.float64, 1e-300, 1e-9),
        (torch.float64, 1e300, 1e-9),
        (torch.float64, 2.0**-1060, 0.01),  # denormal
        (torch.float32, 1e-36, 1e-4),
        (torch.float32, 2.0**-140, 0.05),
        (torch.float32, 1e37, 1e-4),
        (torch.bfloat16, 1e-36, 0.1),
        (torch.bfloat16, 1e37, 0.1),
        (torch.float16, 1e-3, 0.02),
        (torch.float16, 1e4, 0.02),
    ],
)
def test_every_type_measures_the_same_at_both_of_its_ends(dtype, scale, rel):
    head = audited((rows() * scale).to(dtype))
    faces(head)
    plain = audited(rows().to(dtype))
    for name in SCALE_FREE[:-2]:
        ours, expected = (getattr(h.spectrum.centred, name) for h in (head, plain))
        assert ours == pytest.approx(expected, rel=rel, abs=rel)
    assert head.cosines.anisotropy == pytest.approx(plain.cosines.anisotropy, rel=rel, abs=rel)
    assert head.rows.excluded == plain.rows.excluded
    assert head.notes == []


def changed(kind: str, huge: float) -> torch.Tensor:
    weight = rows()
    if kind == "one row":
        weight[3] = huge
    if kind == "one number":
        weight[3, 0] = huge
    if kind == "all but one row":
        weight[:] = huge
        weight[1] = 0
    if kind == "a column that hardly differs":
        weight[:, 1:] = huge
    if kind == "only one row":
        weight[:] = 0
        weight[3] = huge
    if kind == "zeros and duplicates":
        weight[2:8], weight[8:12], weight[12:] = 0, huge, -huge
    return weight


KINDS = (
    "one row",
    "one number",
    "all but one row",
    "a column that hardly differs",
    "only one row",
    "zeros and duplicates",
)
HUGE = [
    *((torch.float32, x) for x in (1e30, 3e38, 1e-45)),
    *((torch.float64, x) for x in (1e30, 1e200, 1e300, 1.7e308, 1e-300, 5e-324)),
    (torch.bfloat16, 1e30),
]


@pytest.mark.parametrize(("dtype", "huge"), HUGE)
@pytest.mark.parametrize("kind", KINDS)
def test_a_head_of_numbers_unlike_in_size_is_reported(kind, dtype, huge):
    head = audited(changed(kind, huge).to(dtype))
    data, page, text = faces(head)
    missing = any(x is None for x in data["row_norms"].values())
    missing |= any(x is None for x in data["spectrum"]["raw"]["singular_values"])
    if missing or data["argmaxable"] is None:
        assert data["notes"]
    if missing:
        assert UNMEASURED in page
    for note in data["notes"]:
        assert note.replace("'", "&#39;") in page
        assert "".join(note.split()) in "".join(text.split())
    # What the largest row is made of does not depend on its size.
    assert data["spectrum"]["raw"]["kl_sigma2"] is not None
    assert data["cosines"]["anisotropy"] is not None
    if kind in ("one row", "only one row") and huge > 1:
        assert head.spectrum.centred.stable_rank == pytest.approx(1)
        assert head.mean_row_share == pytest.approx(1 / V, rel=1e-3)


def test_a_search_that_cannot_compare_is_no_verdict():
    head = audited(changed("one row", 1e300))
    assert head.argmaxable is None
    assert "which tokens can be the most probable" in head.notes[0]
    head = audited(changed("a column that hardly differs", 1e300))
    assert head.argmaxable is None or not head.argmaxable.unargmaxable


def test_what_is_beyond_float64_is_null_and_named():
    data, page, text = faces(audited(changed("one row", 1.7e308)))
    assert data["row_norms"]["maximum"] is None
    assert data["spectrum"]["raw"]["singular_values"][0] is None
    assert data["spectrum"]["raw"]["singular_values"][1] > 0
    assert any("row_norms.maximum" in note for note in data["notes"])
    assert "row_norms.maximum" in text
    assert page.count(UNMEASURED) > 2


@pytest.mark.parametrize("fill", [0.0, 1e300, 0.1])
def test_rows_that_are_all_the_same_are_still_refused(fill):
    with pytest.raises(WideneckError, match="same row for every token"):
        audited(torch.full((V, D), fill, dtype=torch.float64))


@pytest.mark.parametrize("huge", [1e300, 1.7e308, 1e-300])
def test_a_series_with_such_a_head_is_written(huge):
    heads = [rows(), rows() * (huge / 8), changed("one row", huge)]
    found = dataclasses.replace(
        series([1, 2, 3], identical=False),
        points=[
            SeriesPoint(name=f"step{i}", step=i, head=audited(weight))
            for i, weight in enumerate(heads, 1)
        ],
    )
    data = json.loads(found.to_json_text(), parse_constant=no_constant)
    page, text = found.to_html_text(), shown(show, found, 80)
    assert "nan" not in {word.strip('",.') for word in text.split()}
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert max(len(line) for line in page.splitlines() if "<svg" in line) < 30_000
    for point in data["points"]:
        for note in point["head"]["notes"]:
            assert note in page
            assert "".join(note.split()) in "".join(text.split())
    first, second = (point["head"]["spectrum"]["centred"] for point in data["points"][:2])
    assert second["kl_sigma2"] == pytest.approx(first["kl_sigma2"])


def test_lengths_and_directions_of_rows_whose_squares_are_no_numbers():
    sizes = (0.0, 5e-324, 1e-300, 1e-160, 1.0, 1e160, 1e300)
    found = torch.tensor([[3.0 * s, 0.0, 4.0 * s] for s in sizes], dtype=torch.float64)
    assert lengths(found)[2:].tolist() == pytest.approx([5 * s for s in sizes[2:]])
    assert lengths(found)[0] == 0
    unit = directions(found)
    assert unit[0].tolist() == [0, 0, 0]
    for row in unit[2:].tolist():
        assert row == pytest.approx([0.6, 0, 0.8])
    assert unit[1].norm().item() == pytest.approx(1)


def test_no_power_is_needed_where_float64_can_square_twice():
    for largest in (0.0, 1e-45, 1.0, 3.4e38, math.inf, math.nan):
        assert power_for(largest) == 1
    for largest in (5e-324, 1e-300, 1e300, 1.7e308):
        assert 2.0**-80 < largest * power_for(largest) < 2.0**80
        assert math.isfinite(1 / power_for(largest))
