"""Box plots inside a chart: five numbers as a box with whiskers."""

from collections.abc import Callable
from dataclasses import dataclass

HALF = 11.0
"""Half of a box's width."""


@dataclass(frozen=True)
class Box:
    """Five ascending numbers standing at `at`; whiskers reach to the smallest and the largest."""

    at: float
    numbers: tuple[float, float, float, float, float]
    color: str


def draw_box(box: Box, x: Callable[[float], float], y: Callable[[float], float]):
    """The SVG of one box; `x` and `y` map values to the page."""
    center = x(box.at)
    lowest, quarter, median, three_quarters, highest = (y(value) for value in box.numbers)
    left, right = center - HALF, center + HALF
    yield (
        f'<path class="whisker {box.color}" d="M{center:.1f} {lowest:.1f}V{quarter:.1f}'
        f'M{center:.1f} {three_quarters:.1f}V{highest:.1f}"/>'
    )
    yield (
        f'<path class="box {box.color}" d="M{left:.1f} {quarter:.1f}V{three_quarters:.1f}'
        f'H{right:.1f}V{quarter:.1f}Z"/>'
    )
    yield f'<path class="median {box.color}" d="M{left:.1f} {median:.1f}H{right:.1f}"/>'
