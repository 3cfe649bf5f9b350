import math

import pytest
import torch

from wideneck.audits.output.log_prob_rank import numerical_rank
from wideneck.lab.sigsoftmax.known_rank.language import (
    LANGUAGES,
    NUM_CONTEXTS,
    VOCAB_SIZE,
    softmax_language,
    topic_language,
)


def centred_rank(matrix):
    """Up to a constant in each row and in each column."""
    matrix = matrix - matrix.mean(1, keepdim=True)
    return int(torch.linalg.matrix_rank(matrix - matrix.mean(0)))


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_language_is_distributions_of_the_rank_that_it_states(name):
    language = LANGUAGES[name]()

    assert language.name == name
    assert language.log_probs.shape == (NUM_CONTEXTS, VOCAB_SIZE)
    assert language.log_probs.dtype == torch.float64
    torch.testing.assert_close(language.log_probs.exp().sum(-1), torch.ones(NUM_CONTEXTS).double())
    assert int(torch.linalg.matrix_rank(language.log_probs)) == language.rank


@pytest.mark.parametrize("rank", [1, 5, 16])
def test_the_softmax_language_has_one_more_rank_than_its_logits(rank):
    language = softmax_language(rank)

    assert numerical_rank(language.log_probs) == language.rank == rank + 1
    assert centred_rank(language.log_probs) == rank


def test_the_topics_have_the_rank_of_their_number_and_their_logarithm_all_of_it():
    language = topic_language(3)

    assert int(torch.linalg.matrix_rank(language.log_probs.exp())) == 3
    assert language.rank == VOCAB_SIZE
    assert centred_rank(language.log_probs) == VOCAB_SIZE - 1


def test_a_language_is_the_same_each_time_and_leaves_the_generator_alone():
    before = torch.get_rng_state()

    again = topic_language.__wrapped__()

    assert torch.equal(again.log_probs, topic_language().log_probs)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("rank", "size"), [(4, 0.5), (9, 2.0)])
def test_the_softmax_language_has_logits_of_the_deviation_that_it_states(rank, size):
    """Of size W h / sqrt(r), whatever r: r products of normal numbers have the variance r."""
    log_probs = softmax_language(rank, size).log_probs
    drawn = torch.Generator().manual_seed(0)
    H, W = (
        torch.randn(n, rank, generator=drawn, dtype=torch.float64)
        for n in (NUM_CONTEXTS, VOCAB_SIZE)
    )
    expected = (H @ W.T * (size / math.sqrt(rank))).softmax(-1).log()
    torch.testing.assert_close(log_probs, expected)


def test_the_topic_language_is_a_mixture_of_its_topics():
    language, drawn = topic_language(4, 3.5), torch.Generator().manual_seed(0)
    scores = torch.rand(4, VOCAB_SIZE, generator=drawn, dtype=torch.float64)
    shares = torch.randn(NUM_CONTEXTS, 4, generator=drawn, dtype=torch.float64)
    expected = (2 * shares).softmax(1) @ (3.5 * scores).softmax(1)
    torch.testing.assert_close(language.log_probs.exp(), expected)
