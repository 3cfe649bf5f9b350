"""A backbone with a head: published sizes, tying, and every head."""

import pytest
import torch
from small_models import SMALL, V, awd_lstm, segment, transformer

from wideneck import WideneckError
from wideneck import config as c
from wideneck.models.small.config import AwdLstm, Transformer
from wideneck.models.small.language_model import language_model

MOS = c.Mixture(num_components=15)
PTB, WIKITEXT2 = 10_000, 33_278
MOS_PTB = {"embedding_size": 280, "hidden_size": 960, "last_size": 620}
MOS_WIKITEXT2 = {"embedding_size": 300, "hidden_size": 1150, "last_size": 650}


@pytest.mark.parametrize(
    ("options", "head", "vocab_size", "count", "published"),
    [
        ({}, c.Softmax(), PTB, 24_221_600, 24.22),
        ({}, c.Softmax(), WIKITEXT2, 33_556_078, 33.55),
        (MOS_PTB, MOS, PTB, 21_500_620, 21.50),
        (MOS_WIKITEXT2, MOS, WIKITEXT2, 34_909_528, 34.90),
    ],
)
def test_the_models_of_the_papers_have_as_many_parameters_as_published(
    options, head, vocab_size, count, published
):
    with torch.device("meta"):
        model = language_model(AwdLstm(**options), head, vocab_size=vocab_size)
    assert model.num_parameters == count
    # Published in millions with the digits after the second cut off, not rounded.
    assert count // 10_000 == round(100 * published)


@pytest.mark.parametrize("name", c.HEADS)
@pytest.mark.parametrize("tied", [True, False])
def test_every_head_trains_on_an_awd_lstm(name, tied):
    config = {"low_rank": c.LowRank(rank=2), "plif": c.PLIF(num_knots=9)}.get(name, c.HEADS[name])
    if name == "low_rank" and tied:
        return
    model = awd_lstm(config, tied=tied)
    ids, targets = segment()
    step = model(ids, targets)
    step.nll.backward()
    log_probs, _ = model.log_probs(ids)
    want = -log_probs.gather(-1, targets.unsqueeze(-1)).mean()
    torch.testing.assert_close(step.nll.double(), want.double())
    assert all(p.grad is not None for p in model.parameters())
    assert (model.head.weight is model.backbone.embedding.weight) == tied


@pytest.mark.parametrize("head", [c.Mixture(num_components=2), c.MoC(num_components=2)])
def test_a_tied_mixture_has_contexts_as_wide_as_the_embedding(head):
    model = awd_lstm(head, last_size=9)
    assert (model.head.hidden_size, model.head.embedding_size) == (9, SMALL["embedding_size"])
    assert model.head.weight is model.backbone.embedding.weight
    log_probs, _ = model.log_probs(segment()[0])
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(3, 5).double())


def test_a_tied_matrix_counts_once_and_learns_from_both_ends():
    tied, untied = awd_lstm(), awd_lstm(tied=False)
    assert untied.num_parameters - tied.num_parameters == V * SMALL["embedding_size"]
    ids = torch.zeros(1, 2, dtype=torch.long)
    tied(ids, ids).nll.backward()
    untied(ids, ids).nll.backward()
    seen = untied.backbone.embedding.weight.grad.abs().sum(1) > 0
    assert seen.tolist() == [True] + [False] * (V - 1)
    assert (tied.head.weight.grad.abs().sum(1) > 0).all()


def test_no_bias_is_no_bias():
    assert awd_lstm(bias=False).head.bias is None
    assert transformer().head.bias is None


@pytest.mark.parametrize(
    ("model", "head", "message"),
    [
        (AwdLstm(**SMALL), c.LowRank(rank=6), "set tied = false"),
        (AwdLstm(**SMALL, last_size=5), c.Softmax(), "width 6 cannot be the output matrix of a so"),
        (
            AwdLstm(**SMALL, last_size=5),
            c.Mixture(projection="residual"),
            "output matrix of a mos of width 5",
        ),
        (AwdLstm(**SMALL), c.Mixture(embedding_size=4), "output matrix of a mos of width 4"),
    ],
)
def test_a_head_that_cannot_be_tied_is_refused(model, head, message):
    with pytest.raises(WideneckError, match=message):
        language_model(model, head, vocab_size=V)


def test_equal_seeds_give_equal_models():
    first, second = awd_lstm(), awd_lstm()
    assert all(a.equal(b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    other = Transformer(options={"n_embd": 8, "n_layer": 1, "n_head": 2}, tied=False)
    weights = []
    for _ in range(2):
        torch.manual_seed(3)
        weights.append(list(language_model(other, c.Softmax(), vocab_size=V).parameters()))
    assert all(a.equal(b) for a, b in zip(*weights, strict=True))
