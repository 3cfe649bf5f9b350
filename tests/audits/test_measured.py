"""The mechanism: a measure that fails is a note, and no report holds a number that is none."""

import dataclasses
import json
import math

import pytest
import torch

from report.attention_examples import attention_audit
from report.examples import head_audit, output_audit, report, series
from report.memory_examples import memory_audit
from wideneck.audits.measured import UnmeasurableError, measured, settled, unknown
from wideneck.audits.spectrum import Spectrum
from wideneck.errors import WideneckError
from wideneck.report.numbers import UNMEASURED

HEAD = head_audit()


def fails(error):
    def function():
        raise error

    return function


@pytest.mark.parametrize(
    "error",
    [
        torch.linalg.LinAlgError("no convergence"),
        OverflowError("too large"),
        ZeroDivisionError("division"),
        ValueError("array must not contain infs"),
        UnmeasurableError("no convergence."),
    ],
)
def test_what_numbers_lead_to_becomes_a_note(error):
    notes = []
    assert measured("the spectrum", fails(error), None, notes) is None
    assert notes == [f"Not measurable: the spectrum ({str(error).rstrip('.')})."]
    with pytest.raises(type(error)):
        measured("the spectrum", fails(error), None, None)


@pytest.mark.parametrize("error", [WideneckError("wrong"), AssertionError(), KeyboardInterrupt()])
def test_mistakes_are_let_through(error):
    with pytest.raises(type(error)):
        measured("the spectrum", fails(error), None, [])


def test_an_unknown_record_has_no_numbers():
    found = unknown(Spectrum, num_rows=3, num_columns=2)
    assert (found.num_rows, found.numerical_rank, found.w_error) == (3, None, [])
    assert math.isnan(found.stable_rank)


def floats(value, path=()):
    """Every float below a record, as the fields that lead to it."""
    if isinstance(value, float):
        yield path
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from floats(getattr(value, field.name), (*path, field.name))
    elif isinstance(value, list):
        for i, part in enumerate(value):
            yield from floats(part, (*path, i))


def put(value, path, number):
    """The record with `number` at the end of the path."""
    if not path:
        return number
    first, *rest = path
    if isinstance(first, int):
        return [put(x, rest, number) if i == first else x for i, x in enumerate(value)]
    return dataclasses.replace(value, **{first: put(getattr(value, first), rest, number)})


@pytest.mark.parametrize("number", [math.nan, math.inf])
@pytest.mark.parametrize("section", ["head", "output", "attention", "memory"])
def test_any_number_of_any_section_may_be_missing(section, number):
    """One float of each field in turn: named in the notes; and all of them at once, drawn."""
    sections = {
        "head": HEAD,
        "output": output_audit(),
        "attention": attention_audit(1, 2, sizes=(1, 5), lengths=(32, 64), temperatures=(1.0,)),
        "memory": memory_audit(1),
    }
    whole, seen = sections[section], set()
    for path in floats(whole):
        name = tuple(step for step in path if isinstance(step, str))
        if name in seen or name[0] in ("argmaxable",):  # verdicts are checked where they are made
            continue
        seen.add(name)
        found = settled(put(whole, path, number))
        assert any(name[-1] in note for note in found.notes), name
        for step in path:
            found = found[step] if isinstance(step, int) else getattr(found, step)
        assert math.isnan(found)
    assert len(seen) > 10
    nothing = whole
    for path in floats(whole):
        if path[0] != "argmaxable":
            nothing = put(nothing, path, number)
    found = report(*(dict.fromkeys(sections) | {section: nothing}).values())
    data = json.loads(found.to_json_text())[section]
    assert data["notes"]
    page = found.to_html_text()
    assert UNMEASURED in page
    assert not any("nan" in part.split('"')[0] for part in page.split(' d="')[1:])


def test_a_series_holds_no_nan_either():
    found = series([1, 2], identical=False)
    head = put(found.points[0].head, ("row_norms", "median"), math.inf)
    points = [dataclasses.replace(found.points[0], head=head), found.points[1]]
    found = dataclasses.replace(found, points=points)
    assert math.isnan(found.points[0].head.row_norms.median)
    assert "row_norms.median" in found.points[0].head.notes[0]
    assert found.points[1].head.notes == []
