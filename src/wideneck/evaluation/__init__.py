"""A small language model on a text: perplexity as it is, while it learns, with a cache.

Every function takes a `LanguageModel` and token ids (N,), and changes neither.  Names are loaded on
first use: the configs import no torch.
"""

from typing import TYPE_CHECKING

from wideneck.lazy import on_first_use

if TYPE_CHECKING:
    from wideneck.audits.output.head_ranks import LogProbRanks as LogProbRanks
    from wideneck.audits.output.head_ranks import log_prob_ranks as log_prob_ranks
    from wideneck.evaluation.config import DynamicEvaluation as DynamicEvaluation
    from wideneck.evaluation.config import NeuralCache as NeuralCache
    from wideneck.evaluation.dynamic import GradientStatistics as GradientStatistics
    from wideneck.evaluation.dynamic import dynamic_perplexity as dynamic_perplexity
    from wideneck.evaluation.dynamic import gradient_statistics as gradient_statistics
    from wideneck.evaluation.neural_cache import CacheFit as CacheFit
    from wideneck.evaluation.neural_cache import cache_perplexity as cache_perplexity
    from wideneck.evaluation.neural_cache import fit_cache as fit_cache
    from wideneck.evaluation.perplexity import Perplexity as Perplexity
    from wideneck.evaluation.perplexity import static_perplexity as static_perplexity
    from wideneck.evaluation.streaming import Reading as Reading
    from wideneck.evaluation.streaming import spread_contexts as spread_contexts
    from wideneck.evaluation.streaming import stream as stream

__getattr__, __dir__ = on_first_use(__name__)
