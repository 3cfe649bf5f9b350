"""What papers print, as data: one TOML file a paper, read into rows.

Every number is as printed; `status` says how it was checked.
"""

import tomllib
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """One line of a table of accuracies."""

    model: str
    method: str
    full: dict[str, float]
    """Acc@k of the paper's whole distribution, percent, by k."""
    cache: dict[str, float]
    """Of the memory alone."""
    rank: int
    """Of the matrix of log-probabilities."""


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """A table of a paper."""

    title: str
    paper: str
    url: str
    where: str
    measure: str
    status: str
    rows: list[PublishedRow]

    def row(self, model: str, method: str) -> PublishedRow:
        """The one row of a model and a method."""
        (found,) = (row for row in self.rows if (row.model, row.method) == (model, method))
        return found


def published_table(name: str) -> PublishedTable:
    """The table of one paper, such as "histalign"."""
    text = resources.files("wideneck.papers").joinpath(f"{name}.toml").read_text("utf-8")
    content = tomllib.loads(text)
    ks = [str(k) for k in content.pop("ks")]
    rows = [
        PublishedRow(
            model=row["model"],
            method=row["method"],
            full=dict(zip(ks, row["full"], strict=True)),
            cache=dict(zip(ks, row["cache"], strict=True)),
            rank=row["rank"],
        )
        for row in content.pop("row")
    ]
    return PublishedTable(rows=rows, **content)
