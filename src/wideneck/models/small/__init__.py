"""The language models that recipes train: a backbone of `wideneck.models.small.config`, a head.

Names are loaded on first use: the configs import no torch.  `language_model` builds a model; it is
in the module of its name.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wideneck.models.small.awd_lstm import AwdLstmBackbone as AwdLstmBackbone
    from wideneck.models.small.backbone import Backbone as Backbone
    from wideneck.models.small.backbone import Output as Output
    from wideneck.models.small.language_model import LanguageModel as LanguageModel
    from wideneck.models.small.language_model import Step as Step
    from wideneck.models.small.transformer import TransformerBackbone as TransformerBackbone

_FILES = {
    "AwdLstmBackbone": "awd_lstm",
    "Backbone": "backbone",
    "LanguageModel": "language_model",
    "Output": "backbone",
    "Step": "language_model",
    "TransformerBackbone": "transformer",
}


def __getattr__(name: str):
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FILES[name]}"), name)
