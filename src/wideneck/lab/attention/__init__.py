"""What attention heads select: the experiments of Mudarisov et al. 2025 (arXiv:2508.17821)."""

from typing import Any

TAKES = ("scale", "model", "text")
OPTIONS: dict[str, Any] = {}
