"""Reads output layers and language models, whoever wrote them and in whatever file.

Names are loaded on first use, so `import wideneck.models` costs nothing: torch loads with
`HeadWeights` or a reader, transformers only inside the functions that need it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wideneck.models.checkpoint_head import read_head as read_head
    from wideneck.models.default import default_model as default_model
    from wideneck.models.head_weights import HeadWeights as HeadWeights
    from wideneck.models.language_model import LanguageModel as LanguageModel
    from wideneck.models.language_model import evaluating as evaluating
    from wideneck.models.language_model import load_language_model as load_language_model
    from wideneck.models.logit_map import LogitMap as LogitMap
    from wideneck.models.logit_map import measure_logit_map as measure_logit_map

_FILES = {
    "HeadWeights": "head_weights",
    "LanguageModel": "language_model",
    "LogitMap": "logit_map",
    "default_model": "default",
    "evaluating": "language_model",
    "load_language_model": "language_model",
    "measure_logit_map": "logit_map",
    "read_head": "checkpoint_head",
}


def __getattr__(name: str):
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FILES[name]}"), name)
