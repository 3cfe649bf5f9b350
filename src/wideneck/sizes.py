"""What follows from a head's config and its sizes: rank bound and parameters.  Imports no torch.

d is the hidden size, V the vocabulary, K the components of a mixture.
"""

from wideneck.config import GSS, PLIF, HeadConfig, Mixture, MoC
from wideneck.errors import WideneckError


def rank_bound(config: HeadConfig, hidden_size: int, vocab_size: int, *, bias: bool = False) -> int:
    """Largest rank that the matrix of log-probabilities over any contexts can have.

    A softmax of linear scores spans the d columns of its matrix, its bias, and the
    normalizer: at most d + 1 (+ 1) of V.  Anything bent has no bound but V.
    """
    bound = hidden_size + 1 + bias if is_linear(config) else vocab_size
    return min(bound, vocab_size)


def rank_bound_formula(config: HeadConfig) -> str:
    """`rank_bound` in words; no bound exceeds V."""
    return "d + 1 (+1 with bias)" if is_linear(config) else "V"


def is_linear(config: HeadConfig) -> bool:
    """Whether log-probabilities are linear in one hidden vector, up to the normalizer."""
    if isinstance(config, Mixture) and config.num_components == 1:
        return is_linear(config.activation)
    if isinstance(config, GSS):
        return not config.learned and isinstance(config.slope, int | float) and config.slope == 1
    return config.linear


def num_parameters(config: HeadConfig, hidden_size: int) -> int:
    """Parameters beyond the V x d matrix (and its bias) of the softmax head."""
    if isinstance(config, MoC | Mixture):
        width = hidden_size + (config.projection == "tanh")
        num = config.num_components * (hidden_size * width + hidden_size)
        return num + (num_parameters(config.activation, 0) if isinstance(config, Mixture) else 0)
    if isinstance(config, PLIF):
        return config.num_knots - 1
    if getattr(config, "learned", False):
        return 2 if isinstance(config, GSS) else 1
    return 0


def parameters_formula(config: HeadConfig) -> str:
    """`num_parameters` in d and K (and the knots of a PLIF)."""
    if isinstance(config, PLIF):
        return "knots - 1"
    if isinstance(config, MoC | Mixture):
        text = "K d (d + 2)" if config.projection == "tanh" else "K d (d + 1)"
        own = parameters_formula(config.activation) if isinstance(config, Mixture) else "0"
        return text if own == "0" else f"{text} + {own}"
    return str(num_parameters(config, 0))


def check_sizes(hidden_size: int, vocab_size: int) -> None:
    """Refuses sizes that no head can have."""
    for name, size in (("hidden_size", hidden_size), ("vocab_size", vocab_size)):
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise WideneckError(f"A head needs {name} >= 1, got {size!r}.")
