"""`wideneck reproduce`: a paper's experiment again, its numbers beside ours."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from wideneck.commands.destination import Destination
from wideneck.commands.progress import ProgressBars
from wideneck.commands.same_bits import same_bits
from wideneck.commands.streams import printing
from wideneck.files.writing import json_text
from wideneck.lab.registry import OPTIONS, Found, Request


def reproduce(
    paper: str,
    *,
    scale: str | None = None,
    model: str | None = None,
    text: str | None = None,
    num_seeds: int = 3,
    out: Path | None = None,
    json: Path | None = None,
    **own: Any,
) -> None:
    """Run what is missing, then print the table or write the numbers.

    Args:
        paper: one of `wideneck.lab.registry.PAPERS`, which says which options it takes.
        scale: "small", minutes on two cores, or "paper".  None: what the paper's module chooses.
        model: Hugging Face id or folder.
        text: a text file, a folder of splits, or datasets:NAME[:SUBSET].
        num_seeds: at least 1.
        out: folder of the finished runs.
        json: file for every number; "-" prints them in place of the table.
        own: options that single papers bring (`wideneck.lab.registry.OPTIONS`); None: not given.

    Raises:
        WideneckError: an unknown name, an option that the paper does not take, or files that cannot
            be read or written.
    """
    same_bits()
    request = Request(
        paper=paper,
        scale=scale,
        model=model,
        text=text,
        own={name: value for name, value in own.items() if value is not None},
        num_seeds=num_seeds,
        out=out,
    )
    files = [own.get(option.name) for option in OPTIONS if option.kind is Path]
    as_json = Destination.of(json, reads=[model, text, *files])
    run: Callable[[Request, ProgressBars], Found] = _of(paper, "reproduction").reproduce
    with ProgressBars(time_left=True) as progress:
        found = run(request, progress)
    from wideneck.report.console import PlainConsole

    try:
        if as_json is not None:
            as_json.write(json_text(found.to_dict()))
    finally:
        if as_json is None or not as_json.on_stdout:
            with printing():
                _of(paper, "table").show(found, PlainConsole())


def _of(paper: str, module: str) -> Any:
    """A module of a paper, imported now."""
    return import_module(f"wideneck.lab.{paper}.{module}")
