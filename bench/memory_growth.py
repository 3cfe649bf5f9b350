"""How the ranking loss grows with the length: no faster than T^2 log T.

python -m bench.memory_growth SCALE        JSON on standard output
"""

import math
from itertools import pairwise
from statistics import median

from bench.memory_ranking import Setting
from bench.parts import in_turns, report, start, verdict

LENGTHS = (256, 512, 1024, 2048)


def main() -> None:
    scale = start()
    lengths = [round(length * scale) for length in LENGTHS]
    runs = {str(length): Setting(1, length).run("pair_mean") for length in lengths}
    times = in_turns(runs, dict.fromkeys(runs, 7))
    found = {length: median(times[str(length)]) for length in lengths}
    rows = [[f"{lengths[0]:,}", f"{found[lengths[0]]:.4f}", "", ""]]
    for shorter, longer in pairwise(lengths):
        grown = found[longer] / found[shorter]
        cells = [f"{grown:.2f}", f"{_law(longer) / _law(shorter):.2f}"]
        rows.append([f"{longer:,}", f"{found[longer]:.4f}", *cells])
    first, last = lengths[0], lengths[-1]
    report(
        "pair_mean, batch 1; loss and gradient, from the similarities on.",
        ("length", "median s", "grown by", "T^2 log T"),
        rows,
        [
            verdict(
                f"{first:,} to {last:,}: growth",
                found[last] / found[first],
                _law(last) / _law(first),
            )
        ],
    )


def _law(length: int) -> float:
    return length**2 * math.log(length)


if __name__ == "__main__":
    main()
