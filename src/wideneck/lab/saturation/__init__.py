"""Why do small language models underperform? (Godey et al. 2024, arXiv 2404.07647)."""

from pathlib import Path

TAKES = ("scale", "model", "text")
OPTIONS = {
    "losses": (
        Path,
        "FILE",
        "a CSV table of losses of models of many sizes, on which the scaling law is fitted too; "
        "docs/reproduce.md has its columns.",
    )
}
