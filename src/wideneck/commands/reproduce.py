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
from wideneck.papers.registry import Found, Request


def reproduce(
    paper: str,
    *,
    scale: str | None = None,
    model: str | None = None,
    text: str | None = None,
    words: Path | None = None,
    split: str | None = None,
    num_seeds: int = 3,
    out: Path | None = None,
    json: Path | None = None,
) -> None:
    """Run what is missing, then print the table or write the numbers.

    Args:
        paper: one of `wideneck.papers.registry.PAPERS`, which says which options it takes.
        scale: "small", minutes on two cores, or "paper".  None: what the paper's module chooses.
        model: Hugging Face id or folder.
        text: a text file, a folder of splits, or datasets:NAME[:SUBSET].
        words: Google's analogy file; None for the one in gensim.
        split: of the analogies: "leak-free", the default, or "paper".
        num_seeds: at least 1.
        out: folder of the finished runs.
        json: file for every number; "-" prints them in place of the table.

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
        words=words,
        split=split,
        num_seeds=num_seeds,
        out=out,
    )
    as_json = Destination.of(json, reads=[model, text, words])
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
    return import_module(f"wideneck.papers.{paper}.{module}")
