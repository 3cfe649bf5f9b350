"""Published rows and ours: which belongs to which, and what may be said of the two."""

from collections.abc import Iterator

from wideneck.lab.published import Published, PublishedResult
from wideneck.lab.sigsoftmax.reproduction import Arm, Reproduction
from wideneck.lab.verdict import Comparison, compared_number, judge_difference

HEADS = {
    "softmax": "softmax",
    "sigsoftmax": "sigsoftmax",
    "ReLU": "relu",
    "sigmoid": "sigmoid",
    "GSS": "gss",
    "PLIF": "plif",
    "MoC": "moc",
    "MoS": "mos",
    "MoSS": "moss",
}
"""Arms that a paper has a row for, and how its row begins in lab/sigsoftmax.toml."""

REPLICATION = "Table 2"
"""Of Parthiban et al.: 11 seeds, the target that is checked."""
DATA = ("PTB", "WikiText-2")
OURS = {"PLIF": "another start"}
"""Arms that differ from the paper's at its own scale: a PLIF of ours starts as the softmax, that of
Ganea et al. with random slopes."""


def of_data(found: Reproduction) -> list[str]:
    """The texts of the papers to show: the one that was used, or both beside another text."""
    return [found.data] if found.data in DATA else list(DATA)


def row_of(published: Published, arm: str, **wanted: str) -> PublishedResult | None:
    """The paper's number of an arm, where there is one."""
    head = HEADS.get(arm)
    rows = [r for r in published.find(**wanted) if r.row.split(" ")[0] == head]
    return rows[0] if rows else None


def beside(found: Reproduction, data: str, measure: str, figure: str) -> Iterator[Comparison]:
    """The replication's numbers of one measure beside ours."""
    other = "" if found.settings["scale"] == "paper" and data == found.data else "another scale"
    if data != found.data:
        other = "another text"
    for arm in found.arms:
        row = row_of(found.published, arm.name, table=REPLICATION, data=data, measure=measure)
        if row is None:
            continue
        values = [getattr(run, figure) for run in found.runs if run.arm == arm.name]
        yield compared_number(row, arm.name, values, other=other or OURS.get(arm.name, ""))


def sign(found: Reproduction, arm: Arm, data: str) -> str:
    """Whether our difference to the softmax has the sign of the replication's."""
    wanted = {"table": REPLICATION, "data": data, "measure": "test perplexity"}
    more = row_of(found.published, arm.name, **wanted)
    less = row_of(found.published, "softmax", **wanted)
    ours = arm.against_softmax
    if more is None or less is None or ours is None:
        return ""
    return judge_difference(more, less, ours).words


def recalled(found: Reproduction, data: str) -> dict[str, dict[str, PublishedResult]]:
    """Numbers that could not be checked, by row and measure; they are shown, never compared."""
    rows: dict[str, dict[str, PublishedResult]] = {}
    for result in found.published.find(data=data, status="recalled"):
        rows.setdefault(result.row, {})[result.measure] = result
    return rows
