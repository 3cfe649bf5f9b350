"""The ambiguous-template experiment of HistAlign (Wan et al. 2023, section 5, Table 1)."""

from pathlib import Path

from wideneck.lab.option import Option

TAKES = ("scale", "model")
OPTIONS = (
    Option(
        name="words",
        metavar="FILE",
        kind=Path,
        help="Google's questions-words.txt. Default: the one in gensim "
        "(pip install --no-deps gensim).",
    ),
    Option(
        name="split",
        metavar="NAME",
        help="leak-free: no test word is in training. paper: as in the paper. Default: leak-free.",
    ),
)
