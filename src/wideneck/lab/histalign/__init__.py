"""HistAlign (Wan et al. 2023): the ambiguous template of its section 5, and its other tasks."""

from pathlib import Path

TAKES = ("scale", "model")
OPTIONS = {
    "task": (
        str,
        "NAME",
        "template (the ambiguous template), continuation, summaries or data-to-text. Default: "
        "template.",
    ),
    "data": (
        str,
        "DATA",
        "What a task other than template reads: a file, a folder, or datasets:NAME[:SUBSET]. "
        "docs/reproduce.md says what each task takes. Default at the small scale: its own.",
    ),
    "judge": (
        str,
        "MODEL",
        "Hugging Face id or folder of a model that judges what a task other than template writes: "
        "a classifier of entailment, an encoder of sentences, or a causal language model.",
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
