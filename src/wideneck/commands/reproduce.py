"""`wideneck reproduce`: a paper's experiment again, its numbers beside ours."""

from importlib import import_module
from itertools import product, starmap
from pathlib import Path
from typing import Any

from wideneck.commands.destination import deliver, html_and_json
from wideneck.commands.progress import ProgressBars
from wideneck.commands.same_bits import same_bits
from wideneck.errors import WideneckError
from wideneck.files.store import ENDING
from wideneck.lab.registry import OPTIONS, SCALES, Request


def reproduce(
    paper: str, *, html: Path | None = None, json: Path | None = None, **given: Any
) -> None:
    """Run what is missing, then print the tables or write them with the charts.

    Args:
        paper: one of `wideneck.lab.registry.PAPERS`, which says which options it takes.
        html: file for the tables and charts.
        json: file for every number; "-" prints them in place of the tables.
        given: fields of `Request`, and options that single papers bring
            (`wideneck.lab.registry.OPTIONS`); None: not given.

    Raises:
        WideneckError: an unknown name, an option that the paper does not take, files that cannot be
            read or written, or one to write among the runs.
    """
    same_bits()
    own = {name: value for name in OPTIONS if (value := given.pop(name, None)) is not None}
    request = Request(paper=paper, own=own, **given)
    as_html, as_json = html_and_json(html, json, [request.model, request.text, *own.values()])
    _check_no_run(request, html, json)
    with ProgressBars(time_left=True) as progress:
        found = import_module(f"wideneck.lab.{paper}.reproduction").reproduce(request, progress)
    deliver(found.show, (as_html, found.to_html_text), (as_json, found.to_json_text))


def _check_no_run(request: Request, *files: Path | None) -> None:
    """Refuse a name that a run has, or gets, in the folder that keeps them."""
    tasks = "", request.own.get("task", "")
    for file, folder in product(files, starmap(request.folder, product(SCALES, tasks))):
        if file and file.suffix == ENDING and file.resolve().is_relative_to(folder.resolve()):
            raise WideneckError(
                f"{file} could be a finished run's, which {folder} keeps as files {ENDING}: "
                "give a name in another folder."
            )
