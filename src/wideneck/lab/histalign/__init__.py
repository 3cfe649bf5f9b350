"""The ambiguous-template experiment of HistAlign (Wan et al. 2023, section 5, Table 1)."""

from pathlib import Path

TAKES = ("scale", "model")
OPTIONS = {
    "words": (
        Path,
        "FILE",
        "Google's questions-words.txt. Default: the one in gensim (pip install --no-deps gensim).",
    ),
    "split": (
        str,
        "NAME",
        "leak-free (no test word is in training) or paper (as in the paper). Default: leak-free.",
    ),
}
