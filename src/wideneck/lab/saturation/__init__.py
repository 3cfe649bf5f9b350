"""Why do small language models underperform? (Godey et al. 2024, arXiv 2404.07647)."""

from pathlib import Path

TAKES = ("scale", "model", "text")
OPTIONS = {
    "losses": (
        Path,
        "FILE",
        "A CSV table of losses of models of many sizes; the scaling law is fitted on it too.",
    )
}
