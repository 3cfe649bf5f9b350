"""Reads output layers and language models, whoever wrote them and in whatever file.

Names are loaded on first use, so `import wideneck.models` costs nothing: torch loads with
`HeadWeights` or a reader, transformers only inside the functions that need it.
"""

from typing import TYPE_CHECKING

from wideneck.lazy import on_first_use

if TYPE_CHECKING:
    from wideneck.models.asking import ask as ask
    from wideneck.models.asking import evaluating as evaluating
    from wideneck.models.checkpoint_head import read_head as read_head
    from wideneck.models.head_weights import HeadWeights as HeadWeights
    from wideneck.models.language_model import LoadedModel as LoadedModel
    from wideneck.models.language_model import load_language_model as load_language_model
    from wideneck.models.logit_map import LogitMap as LogitMap
    from wideneck.models.logit_map import measure_logit_map as measure_logit_map
    from wideneck.models.source import default_model as default_model

__getattr__, __dir__ = on_first_use(__name__)
