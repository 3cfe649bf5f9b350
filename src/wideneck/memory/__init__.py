"""Cache heads: the tokens of the context as a second output layer, and the losses that train it.

Names are loaded on first use: the config imports no torch.
"""

from typing import TYPE_CHECKING

from wideneck.lazy import on_first_use

if TYPE_CHECKING:
    from wideneck.memory.config import Memory as Memory
    from wideneck.memory.loss import Terms as Terms
    from wideneck.memory.loss import memory_loss as memory_loss
    from wideneck.memory.mixture import Distinct as Distinct
    from wideneck.memory.mixture import Recall as Recall
    from wideneck.memory.mixture import cache_log_probs as cache_log_probs
    from wideneck.memory.mixture import distinct as distinct
    from wideneck.memory.mixture import log_shares as log_shares
    from wideneck.memory.mixture import masked_logsumexp as masked_logsumexp
    from wideneck.memory.mixture import mix as mix
    from wideneck.memory.mixture import mixture_nll as mixture_nll
    from wideneck.memory.mixture import over_vocabulary as over_vocabulary
    from wideneck.memory.mixture import positives as positives
    from wideneck.memory.mixture import recall as recall
    from wideneck.memory.ranking import Ranking as Ranking
    from wideneck.memory.ranking import ranking_loss as ranking_loss
    from wideneck.memory.scores import documents as documents
    from wideneck.memory.scores import similarities as similarities
    from wideneck.memory.scores import visible_history as visible_history

__getattr__, __dir__ = on_first_use(__name__)
