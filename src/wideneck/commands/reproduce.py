"""`wideneck reproduce`: a paper's experiment again, its table beside ours."""

import sys
from pathlib import Path

from wideneck.commands.progress import ProgressBars
from wideneck.errors import WideneckError
from wideneck.papers.histalign.settings import settings
from wideneck.registry import did_you_mean
from wideneck.report.files import check_writable, json_text, write_text

PAPERS = ("histalign",)


def reproduce(
    paper: str,
    *,
    scale: str | None = None,
    model: str | None = None,
    words: Path | None = None,
    split: str | None = None,
    num_seeds: int = 3,
    out: Path | None = None,
    json: Path | None = None,
) -> None:
    """Run what is missing, then print the table or write the numbers.

    Args:
        paper: one of `PAPERS`.
        scale: "small", from scratch on two cores, or "paper", fine-tuning.  None: "small", or
            "paper" with a model.
        model: Hugging Face id or folder, for the paper's scale.
        words: Google's analogy file; None for the one in gensim.
        split: "leak-free", the default, or "paper".
        num_seeds: at least 1.
        out: folder of the finished runs.
        json: file for every number; "-" prints them in place of the table.

    Raises:
        WideneckError: an unknown name, or files that cannot be read or written.
    """
    if paper not in PAPERS:
        raise WideneckError(
            f"No paper that wideneck reproduces is called '{paper}'."
            f"{did_you_mean(paper, list(PAPERS))}"
        )
    if num_seeds < 1:
        raise WideneckError(f"A reproduction needs at least one seed, got --seeds {num_seeds}.")
    chosen = settings(scale, model, split)
    to_stdout = str(json) == "-"
    if json is not None and not to_stdout:
        check_writable(json)  # before the work, not after it
    folder = Path(f"reproduce-{paper}-{chosen.scale}") if out is None else out

    from rich.console import Console

    from wideneck.papers.histalign.reproduction import reproduce as run
    from wideneck.papers.histalign.table import show

    with ProgressBars(time_left=True) as progress:
        found = run(chosen, words, num_seeds, folder, progress)
    text = json_text(found.to_dict())
    if to_stdout:
        sys.stdout.buffer.write(text.encode())
        return
    if json is not None:
        write_text(json, text)
    show(found, Console())
