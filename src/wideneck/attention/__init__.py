"""Attention normalizers: what turns the scores of one query into weights.

Names are loaded on first use: the configs import no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wideneck.attached.hook import use as use
    from wideneck.attention.config import names as names
    from wideneck.attention.learned import build as build
    from wideneck.attention.normalizing import normalize as normalize

_HOMES = {
    "build": "wideneck.attention.learned",
    "names": "wideneck.attention.config",
    "normalize": "wideneck.attention.normalizing",
    "use": "wideneck.attached.hook",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
