"""What follows from a head's config and its sizes: rank bound and parameters.  Imports no torch.

d is the hidden size, V the vocabulary; K are the components of a mixture, E the width of its
contexts where that is not d; r is the rank of a low_rank.
"""

from wideneck.config import HeadConfig, LowRank, Mixture, MoC
from wideneck.errors import WideneckError


def embedding_size(config: HeadConfig, hidden_size: int) -> int:
    """Columns of the output matrix: the width of what meets it."""
    if isinstance(config, LowRank):
        return config.rank
    if isinstance(config, MoC | Mixture) and config.embedding_size is not None:
        return config.embedding_size
    return hidden_size


def rank_bound(config: HeadConfig, hidden_size: int, vocab_size: int, *, bias: bool = False) -> int:
    """Largest rank that the matrix of log-probabilities over any contexts can have.

    A softmax of linear scores spans the columns of its matrix, its bias, and the normalizer: at
    most d + 1 (+ 1) of V.  A mixture of contexts of width E has E columns, which its contexts
    span also where E > d, as a tanh bends them.  Anything bent in its scores has no bound but V.
    """
    if not config.linear:
        return vocab_size
    width = embedding_size(config, hidden_size)
    if isinstance(config, LowRank):
        width = min(width, hidden_size)
    return min(width + 1 + bias, vocab_size)


def rank_bound_formula(config: HeadConfig) -> str:
    """`rank_bound` in words; no bound exceeds V."""
    if not config.linear:
        return "V"
    wide = isinstance(config, MoC | Mixture) and config.embedding_size is not None
    width = "r" if isinstance(config, LowRank) else "E" if wide else "d"
    return f"{width} + 1 (+1 with bias)"


def num_parameters(config: HeadConfig, hidden_size: int, vocab_size: int) -> int:
    """Parameters beyond the V x d matrix (and its bias) of a softmax; below 0, it saves them."""
    width = embedding_size(config, hidden_size)
    num = vocab_size * (width - hidden_size)
    if isinstance(config, LowRank):
        return num + width * hidden_size
    if isinstance(config, Mixture):
        num += config.activation.num_learned
    if isinstance(config, MoC | Mixture):
        columns = hidden_size + (config.projection == "tanh")
        return num + config.num_components * (hidden_size + width * columns)
    return num + config.num_learned


def parameters_formula(config: HeadConfig) -> str:
    """`num_parameters` in the letters of this file, and of the activation."""
    if isinstance(config, LowRank):
        return "V (r - d) + r d"
    if isinstance(config, MoC | Mixture):
        text = "K d (d + 2)" if config.projection == "tanh" else "K d (d + 1)"
        if config.embedding_size is not None:
            text = "V (E - d) + K (d + E (d + 1))"
        own = config.activation.num_learned_formula if isinstance(config, Mixture) else "0"
        return text if own == "0" else f"{text} + {own}"
    return config.num_learned_formula


def check_sizes(hidden_size: int, vocab_size: int) -> None:
    """Refuses sizes that no head can have."""
    for name, size in (("hidden_size", hidden_size), ("vocab_size", vocab_size)):
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise WideneckError(f"A head needs {name} >= 1, got {size!r}.")
