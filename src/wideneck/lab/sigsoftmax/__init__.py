"""The reproduction of Sigsoftmax (Kanai et al. 2018), beside Parthiban et al. (AAAI 2021)."""

from typing import Any

TAKES = ("scale", "model", "text")
OPTIONS: dict[str, Any] = {}
