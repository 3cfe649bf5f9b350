"""The figures of docs/results.md: the charts of what `wideneck reproduce PAPER --html` wrote.

    python -m bench results sigsoftmax-lstm FILE.html
    python -m bench results saturation-small FILE.html

Each goes to docs/results-NAME-*.svg, those of the languages of known rank to
docs/results-known-rank-*.svg.
"""

import re
import sys
from pathlib import Path

from bench.figure import write_svg

DOCS = Path(__file__).parents[1] / "docs"
FILES = {
    "Rank and loss": "{name}-rank",
    "Spectra of the log-probabilities": "{name}-spectra",
    "KL on the language &#34;topics&#34;": "known-rank-topics",
    "KL on the language &#34;softmax&#34;": "known-rank-softmax",
    "Held-out loss over training": "{name}-loss",
    "Singular entropy over training": "{name}-entropy",
    "Heads of rank r": "{name}-rank",
    "Divergence against bytes": "{name}",
}
"""Title of a chart -> its file."""


def main(arguments: list[str]) -> None:
    if len(arguments) != 2:
        sys.exit(__doc__)
    name, file = arguments
    page = Path(file).read_text("utf-8")
    for svg, title in re.findall(r"(<svg.*?<title>(.*?)</title>.*?</svg>)", page, re.DOTALL):
        write_svg(DOCS / f"results-{FILES[title].format(name=name)}.svg", svg)


if __name__ == "__main__":
    main(sys.argv[1:])
