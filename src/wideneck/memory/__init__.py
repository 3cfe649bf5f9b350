"""Cache heads: the tokens of the context as a second output layer, and the losses that train it."""

from wideneck.memory.config import Memory as Memory
from wideneck.memory.loss import Terms as Terms
from wideneck.memory.loss import memory_loss as memory_loss
from wideneck.memory.mixture import Recall as Recall
from wideneck.memory.mixture import cache_log_probs as cache_log_probs
from wideneck.memory.mixture import log_shares as log_shares
from wideneck.memory.mixture import masked_logsumexp as masked_logsumexp
from wideneck.memory.mixture import mix as mix
from wideneck.memory.mixture import mixture_nll as mixture_nll
from wideneck.memory.mixture import positives as positives
from wideneck.memory.mixture import recall as recall
from wideneck.memory.ranking import Ranking as Ranking
from wideneck.memory.ranking import ranking_loss as ranking_loss
from wideneck.memory.scores import documents as documents
from wideneck.memory.scores import similarities as similarities
from wideneck.memory.scores import visible_history as visible_history
