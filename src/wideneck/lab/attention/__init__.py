"""What attention heads select: the experiments of Mudarisov et al. 2025 (arXiv:2508.17821)."""

from wideneck.lab.option import Option

TAKES = ("scale", "model", "text")
OPTIONS: tuple[Option, ...] = ()
