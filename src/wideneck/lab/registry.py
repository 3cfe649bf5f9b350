"""The papers that `wideneck reproduce` knows, and what one brings.  Imports no torch.

A paper is a folder of this package, `lab/NAME/`, whose `__init__` says what it `TAKES` of the
shared options and which `OPTIONS` it brings (name -> type, metavar and help), with two modules that
are imported when it runs:

    reproduction.py    def reproduce(request: Request, progress: Progress) -> Found
    table.py           def said(found) -> dict[str, object]
                       def parts(found) -> dict[str, Sequence[row or block]]

`reproduce` checks what was asked for before it writes anything, makes the runs that the folder
of `request.store(settings)` does not hold, tells how far it is by `progress(stage, done, total)`,
and raises WideneckError.  The page is data: the table `prose` of
`lab/NAME.toml` (`wideneck.lab.found`).  Of its tables `parts` has the rows, by name, and what else
it shows as blocks (`wideneck.report.parts`), which fit into 80 columns of a terminal; its sentences
have places for `found` and what is `said`.  Published numbers are in `lab/NAME.toml` as well
(`wideneck.lab.published`), and what may be said of ours beside them in `wideneck.lab.verdict`.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from wideneck.errors import WideneckError
from wideneck.files.store import Store
from wideneck.lab import attention, histalign, saturation, sigsoftmax
from wideneck.registry import did_you_mean

_MODULES = {
    module.__name__.rpartition(".")[2]: module
    for module in (attention, histalign, saturation, sigsoftmax)
}
OPTIONS: dict[str, Any] = {
    name: Annotated[kind | None, typer.Option(metavar=metavar, help=f"For {paper}: {text}")]
    for paper, module in _MODULES.items()
    for name, (kind, metavar, text) in module.OPTIONS.items()
}
"""Those that single papers bring: what the command line takes under a name, annotated for typer."""
PAPERS: dict[str, tuple[str, ...]] = {
    paper: (*module.TAKES, *module.OPTIONS) for paper, module in _MODULES.items()
}
"""Name of each paper -> the options that it takes beside those that all take."""

COMMON = ("seeds", "out", "html", "json")
"""The options that all take."""
SCALES = ("small", "paper")


@dataclass(frozen=True, kw_only=True)
class Request:
    """One command line.  None: not given, and so the paper's default.

    Raises:
        WideneckError: a paper or a scale that there is not, an option that the paper does not take,
            fewer than one seed.
    """

    paper: str
    """One of `PAPERS`."""
    scale: str | None = None
    """One of `SCALES`."""
    model: str | None = None
    """Hugging Face id or folder."""
    text: str | None = None
    """As for `wideneck.data.read_corpus`: file, folder, or datasets:NAME[:SUBSET]."""
    own: dict[str, Any] = field(default_factory=dict)
    """What is given of the options that single papers bring, by name."""
    num_seeds: int = 3
    out: Path | None = None
    """Folder of the finished runs."""

    def __post_init__(self):
        if self.paper not in PAPERS:
            raise WideneckError(
                f"No paper that wideneck reproduces is called '{self.paper}'."
                f"{did_you_mean(self.paper, list(PAPERS))}"
            )
        takes = PAPERS[self.paper]
        for option in dict.fromkeys(option for some in PAPERS.values() for option in some):
            given = self.own.get(option, getattr(self, option, None))
            if given is not None and option not in takes:
                owners = [paper for paper, options in PAPERS.items() if option in options]
                raise WideneckError(
                    f"--{option} belongs to {_listed(owners)}; {self.paper} takes "
                    f"{_listed([f'--{name}' for name in (*takes, *COMMON)])}."
                )
        if self.scale is not None and self.scale not in SCALES:
            raise WideneckError(
                f"No scale is called '{self.scale}'.{did_you_mean(self.scale, list(SCALES))}"
            )
        if self.num_seeds < 1:
            raise WideneckError(
                f"A reproduction needs at least one seed, got --seeds {self.num_seeds}."
            )

    def store(self, settings: dict[str, Any], task: str = "") -> AbstractContextManager[Store]:
        """The finished runs of these settings, which name their scale, as `Store.opened` has them.

        Args:
            settings: all that they share.
            task: of the paper, where it has several.

        Raises:
            WideneckError: as `Store.opened`.
        """
        folder = self.folder(settings["scale"], task)
        return Store.opened(folder, {"paper": self.paper} | settings)

    def folder(self, scale: str, task: str = "") -> Path:
        """Where the runs of a scale are kept, and of a task, where the paper has several."""
        name = "-".join(part for part in ("reproduce", self.paper, task, scale) if part)
        return Path(name) if self.out is None else self.out


def _listed(names: list[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
