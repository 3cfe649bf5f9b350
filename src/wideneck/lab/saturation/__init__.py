"""Why do small language models underperform? (Godey et al. 2024, arXiv 2404.07647)."""

from pathlib import Path
from typing import Annotated, Any

import typer

TAKES = ("scale", "model", "text")
OPTIONS: dict[str, Any] = {
    "losses": Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A CSV table of losses of models of many sizes; the scaling law is fitted on it "
            "too.",
        ),
    ]
}
