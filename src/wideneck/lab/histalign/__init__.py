"""The ambiguous-template experiment of HistAlign (Wan et al. 2023, section 5, Table 1)."""

from pathlib import Path
from typing import Annotated, Any

import typer

TAKES = ("scale", "model")
OPTIONS: dict[str, Any] = {
    "words": Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Google's questions-words.txt. Default: the one in gensim "
            "(pip install --no-deps gensim).",
        ),
    ],
    "split": Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="leak-free: no test word is in training. paper: as in the paper. Default: "
            "leak-free.",
        ),
    ],
}
