"""wideneck measures what normalization costs a language model, and offers the replacements.

Names are loaded on first use: `import wideneck` imports neither torch nor transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wideneck.commands.audit import audit as audit
    from wideneck.commands.series import audit_series as audit_series
    from wideneck.errors import WideneckError as WideneckError
    from wideneck.report.report import Report as Report
    from wideneck.report.series import SeriesReport as SeriesReport

__version__ = "0.1.0"

_HOMES = {
    "Report": "wideneck.report.report",
    "SeriesReport": "wideneck.report.series",
    "WideneckError": "wideneck.errors",
    "audit": "wideneck.commands.audit",
    "audit_series": "wideneck.commands.series",
}
__all__ = ["Report", "SeriesReport", "WideneckError", "audit", "audit_series"]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'wideneck' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
