"""Attention normalizers: what turns the scores of one query into weights.

Names are loaded on first use: the configs import no torch.
"""

from typing import TYPE_CHECKING

from wideneck.lazy import on_first_use

if TYPE_CHECKING:
    from wideneck.attached.hook import use as use
    from wideneck.attention.config import names as names
    from wideneck.attention.learned import build as build
    from wideneck.attention.normalizing import normalize as normalize
    from wideneck.attention.routes import routes_taken as routes_taken

__getattr__, __dir__ = on_first_use(__name__)
