"""HistAlign (Wan et al. 2023): the ambiguous template of its section 5, and its other tasks."""

from pathlib import Path

from wideneck.lab.tasks import OPTIONS as OF_TASKS

TAKES = ("scale", "model")
OPTIONS = {
    **OF_TASKS,
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
