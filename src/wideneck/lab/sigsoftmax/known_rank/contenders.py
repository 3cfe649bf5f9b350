"""The heads that are compared.

A scale of the scores is nothing new where the matrix is free, so the softmax has one control of
this kind.  The GSS learns its bend and slope, and the PLIF has knots at every half.
"""

from wideneck import config as c
from wideneck.lab.sigsoftmax.recipes import MATCHED
from wideneck.sizes import num_parameters

NUM_COMPONENTS = 4

CONTENDERS: dict[str, c.HeadConfig] = {
    "softmax": c.Softmax(),
    "softmax x learned": c.ScaledSoftmax(),
    MATCHED: c.Softmax(),
    "sigsoftmax": c.Sigsoftmax(),
    "ReLU": c.ReLU(),
    "sigmoid": c.Sigmoid(),
    "GSS": c.GSS(learned=True),
    "PLIF": c.PLIF(num_knots=41, reach=10.0),
    "MoC": c.MoC(num_components=NUM_COMPONENTS),
    "MoS": c.Mixture(num_components=NUM_COMPONENTS),
    "MoSS": c.Mixture(num_components=NUM_COMPONENTS, activation=c.Sigsoftmax()),
}
"""Each head by the name of its row."""


def hidden_size(head: str, width: int, vocab_size: int) -> int:
    """The d of a head in the column `width`: that, but for the matched softmax.

    The matched softmax is as wide as it takes to have the parameters of the MoS, or just more.
    Its contexts are then wider too, which is in its favour, as no parameter of a context counts.
    """
    if head != MATCHED:
        return width
    wanted, size = head_parameters(CONTENDERS["MoS"], width, vocab_size), width
    while head_parameters(CONTENDERS[MATCHED], size, vocab_size) < wanted:
        size += 1
    return size


def head_parameters(config: c.HeadConfig, hidden_size: int, vocab_size: int) -> int:
    """All numbers of a head with a bias."""
    return vocab_size * (hidden_size + 1) + num_parameters(config, hidden_size, vocab_size)
