"""The language models that recipes train: a backbone of `wideneck.models.small.config`, a head.

Names are loaded on first use: the configs import no torch.  `language_model` builds a model; it is
in the module of its name.
"""

from typing import TYPE_CHECKING

from wideneck.lazy import on_first_use

if TYPE_CHECKING:
    from wideneck.models.small.awd_lstm import AwdLstmBackbone as AwdLstmBackbone
    from wideneck.models.small.backbone import Backbone as Backbone
    from wideneck.models.small.backbone import Output as Output
    from wideneck.models.small.language_model import LanguageModel as LanguageModel
    from wideneck.models.small.language_model import Step as Step
    from wideneck.models.small.transformer import TransformerBackbone as TransformerBackbone

__getattr__, __dir__ = on_first_use(__name__)
