"""Which memories a position sees, and how similar they are to it.

Letters: B sequences, Q queries, M memories, D hidden size.  A memory is a key, a hidden state,
with a value, a token.  Of a decoder's own history, memory j is (h_j, x_{j+1}): the state at
position j and the token that followed (Wan et al. 2023, Eq. 2, with h indexed by its input).  Of an
encoder, memory j is (E_j, x_j), the state at a source token and that token (section 4.3 there).
"""

import math

import torch
from torch import Tensor

from wideneck.functional.distribution import widened


def similarities(queries: Tensor, keys: Tensor) -> Tensor:
    """The scaled dot products q . k / sqrt(D) of Zhong et al. 2022, Eq. 3.

    Args:
        queries: (..., Q, D).
        keys: (..., M, D).

    Returns:
        (..., Q, M), at least float32 whatever the inputs: float16 would overflow.
    """
    dtype = widened(queries, keys)
    scale = 1 / math.sqrt(queries.shape[-1])  # on the narrow side
    with torch.autocast(queries.device.type, enabled=False):
        return (queries.to(dtype) * scale) @ keys.to(dtype).mT


def visible_history(
    valid: Tensor,
    num_queries: int | None = None,
    *,
    window: int | None = None,
    document: Tensor | None = None,
) -> Tensor:
    """The memories of its own sequence that each of the last Q positions sees.

    Position i, which predicts token i + 1, sees memory j < i where the tokens j and j + 1 are real:
    memory i holds the very token that is predicted.

    Args:
        valid: (B, T), True for real tokens, False for padding on either side.
        num_queries: Q; None for all T positions.
        window: see only the last `window` memories, those with i - j <= window.
        document: (B, T), the number of each token's document: no memory crosses a border.

    Returns:
        (B, Q, T - 1), True where visible.
    """
    num_tokens = valid.shape[1]
    at = torch.arange(num_tokens, device=valid.device)
    query = at[num_tokens - (num_tokens if num_queries is None else num_queries) :, None]
    key = at[:-1]
    seen = key < query
    if window is not None:
        seen = seen & (query - key <= window)
    seen = seen & (valid[:, None, :-1] & valid[:, None, 1:])
    if document is not None:
        own = document[:, query[:, 0], None]
        seen = seen & (document[:, None, :-1] == own) & (document[:, None, 1:] == own)
    return seen


def documents(ids: Tensor, separator: int) -> Tensor:
    """The number of each token's document, counted from 0, where `separator` opens a new one.

    So the prediction made at a separator, the first token of the new document, sees nothing of
    the old one, whether the separator is called the end of a text or its beginning.

    Args:
        ids: (B, T).
        separator: a token id.
    """
    return (ids == separator).cumsum(-1)
