"""The papers' numbers beside ours: those of the replication compared, the paper's own recalled."""

from collections.abc import Iterator
from typing import Any

from wideneck.lab.published import Published, PublishedResult
from wideneck.lab.sigsoftmax.arms import Arm
from wideneck.lab.sigsoftmax.reproduction import Reproduction
from wideneck.lab.verdict import Comparison, compared_number, judge_difference

REPLICATION = "Table 2"
"""Of Parthiban et al.: 11 seeds, the target that is checked."""
OURS = {"PLIF": "another start"}
"""Arms that differ from the paper's at its own scale: a PLIF of ours starts as the softmax, that of
Ganea et al. with random slopes."""


def rows_of(published: Published, **wanted: str) -> dict[str, PublishedResult]:
    """The papers' numbers by the name of the head, with which their rows begin."""
    return {row.row.split(" ")[0]: row for row in published.find(**wanted)}


def beside(found: Reproduction, data: str, measure: str) -> Iterator[Comparison]:
    """The replication's numbers of one measure beside ours."""
    other = "" if found.settings["scale"] == "paper" else "another scale"
    if data != found.data:
        other = "another text"
    rows = rows_of(found.published, table=REPLICATION, data=data, measure=measure)
    for arm in found.arms:
        if row := rows.get(arm.name.lower()):
            values = of_runs(found, arm, measure.replace(" ", "_"))
            yield compared_number(row, arm.name, values, other=other or OURS.get(arm.name, ""))


def sign(found: Reproduction, arm: Arm) -> str:
    """Whether our difference to the softmax has the sign of the replication's, if it has one."""
    wanted = {"table": REPLICATION, "data": found.data, "measure": "test perplexity"}
    rows = rows_of(found.published, **wanted)
    more = rows.get(arm.name.lower())
    if more is None:
        return ""
    return judge_difference(more, rows["softmax"], arm.against_softmax).words


def recalled(found: Reproduction, data: str) -> dict[str, dict[str, PublishedResult]]:
    """Numbers that could not be checked, by row and measure; they are shown, never compared."""
    rows: dict[str, dict[str, PublishedResult]] = {}
    for result in found.published.find(data=data, status="recalled"):
        rows.setdefault(result.row, {})[result.measure] = result
    return rows


def of_runs(found: Reproduction, arm: Arm, figure: str) -> list[Any]:
    """A figure of each run of an arm, seed by seed."""
    return [getattr(run, figure) for run in found.runs if run.arm == arm.name]
