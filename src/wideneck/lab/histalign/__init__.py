"""The ambiguous-template experiment of HistAlign (Wan et al. 2023, section 5, Table 1)."""

from pathlib import Path

TAKES = ("scale", "model")
OPTIONS = {
    "task": (
        str,
        "NAME",
        "template (the ambiguous template), continuation, summaries or data-to-text. Default: "
        "template.",
    ),
    "data": (str, "TEXT", "What the task is of: a file, a folder, or datasets:NAME[:SUBSET]."),
    "judge": (
        str,
        "MODEL",
        "Judges the texts of a task: a classifier of entailment, an encoder of sentences, or a "
        "causal language model.",
    ),
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
