"""wideneck measures what normalization costs a language model, and offers the replacements.

Names are loaded on first use: `import wideneck` imports neither torch nor transformers, and leaves
both as they are.  The first name that is used registers with transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from wideneck import lazy as _lazy

if TYPE_CHECKING:
    from wideneck import attention as attention
    from wideneck import config as config
    from wideneck import functional as functional
    from wideneck import heads as heads
    from wideneck import memory as memory
    from wideneck import trl as trl
    from wideneck.attached.attaching_memory import attach_memory as attach_memory
    from wideneck.attached.basis_aware import BasisAwareTruncation as BasisAwareTruncation
    from wideneck.attached.logging import LogMemory as LogMemory
    from wideneck.attached.merging import merged as merged
    from wideneck.attached.parameter_groups import parameter_groups as parameter_groups
    from wideneck.attached.reset_rows import reset_rows as reset_rows
    from wideneck.attached.token_outputs import token_outputs as token_outputs
    from wideneck.audits.attention.settings import AttentionSettings as AttentionSettings
    from wideneck.config import GSS as GSS
    from wideneck.config import PLIF as PLIF
    from wideneck.config import LowRank as LowRank
    from wideneck.config import Mixture as Mixture
    from wideneck.config import MoC as MoC
    from wideneck.config import ReLU as ReLU
    from wideneck.config import ScaledSoftmax as ScaledSoftmax
    from wideneck.config import Sigmoid as Sigmoid
    from wideneck.config import Sigsoftmax as Sigsoftmax
    from wideneck.config import SoftCap as SoftCap
    from wideneck.config import Softmax as Softmax
    from wideneck.entry.attaching import attach as attach
    from wideneck.entry.audit import audit as audit
    from wideneck.entry.compare import compare as compare
    from wideneck.entry.loading import load as load
    from wideneck.entry.series import audit_series as audit_series
    from wideneck.errors import WideneckError as WideneckError
    from wideneck.evaluation.comparison.comparison import Comparison as Comparison
    from wideneck.functional.loss import linear_cross_entropy as linear_cross_entropy
    from wideneck.functional.loss import (
        linear_cross_entropy_and_log_normalizer as linear_cross_entropy_and_log_normalizer,
    )
    from wideneck.functional.token_outputs import TokenOutputs as TokenOutputs
    from wideneck.memory.config import Memory as Memory
    from wideneck.report.report import Report as Report
    from wideneck.report.series import SeriesReport as SeriesReport
    from wideneck.watching.watch import Watch as Watch

__version__ = "0.1.0"

_HOMES = _lazy.homes_in(__name__)


def _configs() -> dict[str, type]:
    """The class of every head, by name: the registry's."""
    heads = import_module("wideneck.config").HEADS.values()
    return {type(head).__name__: type(head) for head in heads}


def __getattr__(name: str):
    if name == "__all__":
        return sorted({*_HOMES, *_configs()})
    home = _HOMES.get(name)
    if home == __name__:
        return import_module(f"wideneck.{name}")
    configs = {} if home else _configs()
    if home is None and name not in configs:
        raise AttributeError(f"module 'wideneck' has no attribute '{name}'")
    import_module("wideneck.auto")
    return configs[name] if home is None else getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_configs()})
