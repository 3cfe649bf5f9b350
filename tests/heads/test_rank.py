"""The theory: which heads are stuck at rank d + 1, and which are not (Yang et al. 2018)."""

import pytest
import torch

from wideneck import config as c
from wideneck import heads

D, V = 6, 40

STUCK = {
    "softmax": c.Softmax(),
    "scaled softmax": c.ScaledSoftmax(scale=1.5),
    "gss of slope 1": c.GSS(slope=1),
    "moc": c.MoC(),
    "residual moc": c.MoC(projection="residual"),
    "mos of one": c.Mixture(num_components=1),
    "plif at its start": c.PLIF(num_knots=9, reach=4.0),
}
STUCK_AT_A_WIDTH = {
    "low_rank": (c.LowRank(rank=4), 4),
    "low_rank of full rank": (c.LowRank(rank=D), D),
    "narrow moc": (c.MoC(embedding_size=3), 3),
    "wide moc": (c.MoC(embedding_size=9), 9),
    "wide mos of one": (c.Mixture(num_components=1, embedding_size=9), 9),
}
FREE = {
    "sigsoftmax": c.Sigsoftmax(),
    "gss": c.GSS(bend=-0.5, slope=2.5),
    "relu": c.ReLU(),
    "sigmoid": c.Sigmoid(),
    "softcap": c.SoftCap(cap=3.0),
    "mos": c.Mixture(),
    "moss": c.Mixture(activation=c.Sigsoftmax()),
    "narrow mos": c.Mixture(embedding_size=4),
    "wide mos": c.Mixture(embedding_size=9),
    "residual mos": c.Mixture(projection="residual"),
    "moss of one": c.Mixture(activation=c.Sigsoftmax(), num_components=1),
}


@torch.no_grad()
def rank(config, *, bias=False, shift=0.0, slopes=False):
    """Rank of the log-probabilities over 4 V random contexts, with scores of some +-3."""
    torch.manual_seed(0)
    head = heads.build(config, hidden_size=D, vocab_size=V, bias=bias).double()
    head.weight.normal_()
    if bias:
        head.bias.normal_().add_(shift)
    if isinstance(config, c.MoC | c.Mixture):
        head.projections.latent.weight.normal_(0, 1)
        head.projections.prior.weight.normal_()
    if slopes:
        head.activation.v.normal_(0, 2)
    hidden = torch.randn(4 * V, D, dtype=torch.float64)
    found = int(torch.linalg.matrix_rank(head.log_probs(hidden)))
    assert found <= head.rank_bound
    # It is attained where nothing bends, and where all scores pass a bend.
    assert found == head.rank_bound or isinstance(config, c.PLIF) or abs(shift) > 1
    return found


@pytest.mark.parametrize("name", STUCK)
def test_linear_scores_are_stuck_at_d_plus_one_and_one_more_with_a_bias(name):
    assert rank(STUCK[name]) == D + 1
    assert rank(STUCK[name], bias=True) == D + 2


@pytest.mark.parametrize("name", STUCK_AT_A_WIDTH)
def test_linear_scores_are_stuck_at_the_width_that_meets_the_matrix(name):
    config, width = STUCK_AT_A_WIDTH[name]
    assert rank(config) == width + 1
    assert rank(config, bias=True) == width + 2


@pytest.mark.parametrize("name", FREE)
def test_bent_scores_and_mixtures_are_not(name):
    assert rank(FREE[name]) == V
    assert rank(FREE[name], bias=True) == V


def test_a_plif_of_learned_slopes_is_not():
    assert rank(c.PLIF(num_knots=9, reach=4.0), slopes=True) > 2 * D


@pytest.mark.parametrize("shift", [-60.0, 60.0])
def test_a_sigsoftmax_far_from_its_bend_is_stuck_as_well(shift):
    """It is then a softmax of scale 2, or 1, up to less than the rounding of float64."""
    assert rank(c.Sigsoftmax(), bias=True, shift=shift) == D + 2
