"""From scores to weights: where a normalizer's formula is asked for."""

from torch import Tensor

from wideneck.attention.normalizer import Normalizer
from wideneck.attention.normalizer import count as count


def weights_of(scores: Tensor, visible: Tensor | None, config: Normalizer) -> Tensor:
    """Weights of rows of scores.

    Args:
        scores: (..., K), float32 or float64; of hidden keys they may be anything finite.
        visible: True where a key counts, broadcastable to the scores; None for all.
        config: the normalizer, whose numbers may be tensors.
    """
    return config.weights(scores, visible)
