"""Languages that are given: a matrix of true log-probabilities, and what its rank is.

A (C x V) is log P, row c the distribution of the next token after context c, float64.  A softmax
with hidden size d can be exact if and only if A is a matrix of rank d at most and a constant in
each row (Yang et al. 2018), with a bias also one in each column.  Two languages tell apart what a
head may lack:

- "softmax": its contexts need as many numbers as its logits have rank.  A head with a smaller d
  lacks numbers for each context, and no bend of its scores or mixture gives it any.
- "topics": its contexts need three numbers each, and yet A has full rank.  Any d >= 3 is numbers
  enough; a softmax lacks the shape, and a mixture of four has it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

NUM_CONTEXTS, VOCAB_SIZE = 128, 64


@dataclass(frozen=True, eq=False)
class Language:
    """What a head is to write."""

    name: str
    log_probs: Tensor
    """A (C, V), float64, natural logarithms."""
    rank: int
    """The rank of A, by construction."""

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.log_probs.shape[1]


@cache
def softmax_language(rank: int = 16, size: float = 0.5) -> Language:
    """Row c is softmax(size W h_c / sqrt(r)), with r = `rank` and all of W and h standard normal.

    The logits have rank r and the normalizers add the ones: rank r + 1, and a softmax of d = r
    is exact.
    """
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(NUM_CONTEXTS, rank, generator=generator, dtype=torch.float64)
    weight = torch.randn(VOCAB_SIZE, rank, generator=generator, dtype=torch.float64)
    logits = size / rank**0.5 * hidden @ weight.T
    return Language("softmax", logits.log_softmax(-1), min(rank + 1, VOCAB_SIZE))


@cache
def topic_language(num_topics: int = 4, reach: float = 3.5) -> Language:
    """Row c is sum_k theta_ck phi_k over topics phi_k = softmax(u_k), u uniform in (0, `reach`).

    theta_c, each context's share of the topics, is a softmax of normals of deviation 2.  P itself
    has rank `num_topics`.  Its logarithm has rank V: no two tokens have proportional
    probabilities under the topics, and logarithms of such linear functions of theta are linearly
    independent, each having its pole elsewhere.  A mixture of as many softmaxes is exact from
    d = `num_topics` - 1 on, its priors the theta and its components the topics.
    """
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(num_topics, VOCAB_SIZE, generator=generator, dtype=torch.float64)
    shares = torch.randn(NUM_CONTEXTS, num_topics, generator=generator, dtype=torch.float64)
    topics, shares = (reach * scores).log_softmax(-1), (2 * shares).log_softmax(-1)
    return Language("topics", torch.logsumexp(shares.unsqueeze(-1) + topics, dim=1), VOCAB_SIZE)


LANGUAGES: dict[str, Callable[[], Language]] = {
    "softmax": softmax_language,
    "topics": topic_language,
}
"""Every language by name."""
