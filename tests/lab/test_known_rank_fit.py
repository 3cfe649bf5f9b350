"""The bottleneck itself: what a softmax of d cannot do on a known language, and mixtures can."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.special import rel_entr

from wideneck.audits.output.log_prob_rank import numerical_rank
from wideneck.config import Mixture, Sigsoftmax, Softmax
from wideneck.files.records import record
from wideneck.heads import build
from wideneck.lab.sigsoftmax.known_rank.contenders import (
    CONTENDERS,
    head_parameters,
    hidden_size,
)
from wideneck.lab.sigsoftmax.known_rank.fit import Fit, fit, fitted_log_probs, known_rank, mean_kl
from wideneck.lab.sigsoftmax.known_rank.language import softmax_language, topic_language
from wideneck.lab.sigsoftmax.known_rank.table import below_bound, blocks
from wideneck.lab.sigsoftmax.recipes import MATCHED
from wideneck.report.terminal import print_blocks

D = 4


def shown(fits):
    console = Console(width=80, file=io.StringIO())
    print_blocks(blocks(fits), console)
    return console.file.getvalue()


def test_a_softmax_stays_above_the_kl_that_its_rank_allows_and_mixtures_get_below_it():
    language = topic_language()
    softmaxes = [
        fit(language, name, D, seed, num_steps=300)
        for name in ("softmax", "MoC")
        for seed in (0, 1)
    ]
    mixtures = [
        fit(language, name, D, seed, num_steps=700)
        for name, seed in (("MoS", 0), ("MoS", 1), ("MoSS", 0))
    ]

    assert all(one.kl > one.bound > 0 and one.rank == D + 2 for one in softmaxes)
    assert all(one.kl < one.bound and one.rank > 2 * D for one in mixtures)
    assert below_bound(mixtures)


def test_a_softmax_is_exact_where_the_rank_suffices():
    found = fit(softmax_language(4), "softmax", 4, 0, num_steps=500)

    assert found.bound == 0.0
    assert found.kl < 1e-6
    assert found.rank == found.true_rank_press == found.true_rank == 5


def test_a_mixture_of_as_many_components_as_topics_is_exact_from_one_width_less():
    """By weights that are set, not trained: it is the head and not the training that can."""
    language = topic_language(4)
    d, V = 3, language.vocab_size
    head = build(Mixture(num_components=4), hidden_size=d, vocab_size=V, bias=True).double()
    generator = torch.Generator().manual_seed(0)
    topics = 3.5 * torch.rand(4, V, generator=generator, dtype=torch.float64)
    shares = 2 * torch.randn(len(language.log_probs), 4, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        # Contexts 0, e_1, e_2, e_3, each one half; the prior reads the shares less the first.
        head.bias.copy_(topics[0])
        head.weight.copy_(2 * (topics[1:] - topics[0]).T)
        head.projections.latent.weight.zero_()
        corners = 0.5 * torch.cat([torch.zeros(1, d), torch.eye(d)]).double()
        head.projections.latent.bias.copy_(corners.atanh().flatten())
        head.projections.prior.weight.copy_(torch.cat([torch.zeros(1, d), torch.eye(d)]))
        written = head.log_probs(shares[:, 1:] - shares[:, :1])

    assert mean_kl(language.log_probs, written) < 1e-14


def test_the_kl_is_that_of_scipy_and_its_gradient_the_difference_of_probabilities():
    truth = topic_language().log_probs
    logits = torch.randn(truth.shape, generator=torch.Generator().manual_seed(1)).double()
    logits.requires_grad_()

    kl = mean_kl(truth, logits.log_softmax(-1))
    kl.backward()

    P, Q = truth.exp().numpy(), logits.detach().softmax(-1).numpy()
    np.testing.assert_allclose(kl.item(), rel_entr(P, Q).sum(-1).mean(), rtol=1e-12)
    np.testing.assert_allclose(logits.grad, (Q - P) / len(P), atol=1e-15)


@pytest.mark.parametrize("head", [head for head in CONTENDERS if head != "ReLU"])
def test_every_head_but_the_relu_lowers_the_kl_below_that_of_one_distribution_for_all(head):
    truth = topic_language().log_probs
    average = mean_kl(truth, truth.logsumexp(0).log_softmax(-1).expand_as(truth))

    fitted = fitted_log_probs(topic_language(), head, D, 0, num_steps=60)

    torch.testing.assert_close(fitted.exp().sum(-1), torch.ones(len(fitted)).double())
    assert mean_kl(truth, fitted) < average


def test_a_fit_is_the_same_again_and_leaves_the_generator_alone():
    before = torch.get_rng_state()

    first, second = (fit(topic_language(), "MoSS", 2, 3, num_steps=5) for _ in range(2))

    assert first.kl == second.kl
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("width", [2, 4, 8, 16])
def test_the_matched_softmax_has_just_the_parameters_of_the_mixture(width):
    def parameters(head, size):
        layer = build(CONTENDERS[head], hidden_size=size, vocab_size=64, bias=True)
        counted = sum(p.numel() for p in layer.parameters())
        assert counted == head_parameters(CONTENDERS[head], size, 64)
        return counted

    size = hidden_size(MATCHED, width, 64)

    assert parameters(MATCHED, size - 1) < parameters("MoS", width) <= parameters(MATCHED, size)


def test_all_fits_come_in_order_and_are_shown_in_80_columns(monkeypatch):
    monkeypatch.setattr("wideneck.lab.jobs.cores", lambda: 1)
    told = []
    heads = ["softmax", MATCHED, "MoS"]

    fits = known_rank(
        num_seeds=2, progress=lambda *a: told.append(a), heads=heads, widths=[2, 16], num_steps=3
    )

    assert [(f.language, f.head, f.width, f.seed) for f in fits] == [
        (language, head, width, seed)
        for language in ("softmax", "topics")
        for head in heads
        for width in (2, 16)
        for seed in (0, 1)
    ]
    assert told[-1][1] == told[-1][2]
    assert [record(Fit, dataclasses.asdict(one), "f", "m", exact=True) for one in fits] == fits
    text = shown(fits)
    assert max(map(len, text.splitlines())) <= 80
    for wanted in (*heads, "d = 16", "softmax's bound", "rank 17", "rank 64"):
        assert wanted in text


def test_the_mark_stands_only_where_every_seed_is_below_the_bound_of_its_own_size():
    one = fit(topic_language(), "MoS", 2, 0, num_steps=1)
    fits = [dataclasses.replace(one, kl=kl, seed=seed) for seed, kl in enumerate((1e-4, 2e-4))]

    def with_bound(bound):
        return [dataclasses.replace(each, bound=bound) for each in fits]

    assert " *1.5e-4" in shown(with_bound(3e-4))
    assert " 1.5e-4" in shown(with_bound(1.7e-4))


def test_a_fit_says_of_its_own_log_probabilities_what_they_are(monkeypatch):
    """The matched softmax is wider than its column, and its bound is that of its own width."""
    asked = []
    monkeypatch.setattr(
        "wideneck.lab.sigsoftmax.known_rank.fit._bound", lambda *a: asked.append(a) or 0.5
    )
    language = topic_language()
    size = hidden_size(MATCHED, 2, language.vocab_size)
    found = fit(language, MATCHED, 2, 5, num_steps=3)
    written = fitted_log_probs(language, MATCHED, size, 5, num_steps=3)
    assert size == 3
    assert asked == [(language, 3)]
    assert (found.width, found.hidden_size, found.seed, found.bound) == (2, 3, 5, 0.5)
    P, Q = language.log_probs.exp().numpy(), written.exp().numpy()
    assert found.kl == pytest.approx(rel_entr(P, Q).sum(-1).mean(), rel=1e-9)
    assert found.rank == int(numerical_rank(written)) == 5
    assert found.rank_float64 == int(torch.linalg.matrix_rank(written))
    assert (found.true_rank, found.true_rank_press) == (64, numerical_rank(language.log_probs))


def test_another_seed_is_another_start(monkeypatch):
    monkeypatch.setattr("wideneck.lab.sigsoftmax.known_rank.fit._bound", lambda *_: 0.5)
    monkeypatch.setattr("wideneck.lab.jobs.cores", lambda: 1)
    fits = known_rank(
        num_seeds=3,
        progress=lambda *_: None,
        languages=["topics"],
        heads=["MoS"],
        widths=[2],
        num_steps=2,
    )
    assert len({one.kl for one in fits}) == 3


def test_a_fit_is_below_the_bound_where_every_seed_is():
    one = fit(topic_language(), "softmax", 2, 0, num_steps=1)
    below, above = (dataclasses.replace(one, kl=kl, bound=1.0) for kl in (0.5, 1.5))
    assert below_bound([below, below])
    assert not below_bound([below, above])
    assert not below_bound([above, above])
    assert not below_bound([dataclasses.replace(one, kl=1.0, bound=1.0)])


def test_the_rate_falls_to_0_along_a_cosine(monkeypatch):
    rates = []
    real = torch.optim.lr_scheduler.LambdaLR

    def scheduler(optimizer, rate):
        rates.extend(rate(step) for step in (0, 25, 50, 100))
        return real(optimizer, rate)

    monkeypatch.setattr(torch.optim.lr_scheduler, "LambdaLR", scheduler)
    fitted_log_probs(topic_language(), "softmax", 2, 0, num_steps=100)
    assert rates == pytest.approx([1, (1 + 0.5**0.5) / 2, 0.5, 0])


def test_ranks_are_told_at_both_tolerances(monkeypatch):
    """A bent head has singular values that float32 does not see and float64 does."""
    monkeypatch.setattr("wideneck.lab.sigsoftmax.known_rank.fit._bound", lambda *_: 0.5)
    found = fit(topic_language(), "sigsoftmax", 2, 0, num_steps=20)
    written = fitted_log_probs(topic_language(), "sigsoftmax", 2, 0, num_steps=20)
    assert found.rank == numerical_rank(written) < found.rank_float64
    assert found.rank_float64 == int(torch.linalg.matrix_rank(written))


def test_a_contender_is_what_its_row_says():
    kinds = {name: type(head) for name, head in CONTENDERS.items()}
    assert kinds["MoS"] is kinds["MoSS"] is Mixture
    assert isinstance(CONTENDERS["MoSS"].activation, Sigsoftmax)
    assert isinstance(CONTENDERS["MoS"].activation, Softmax)
    assert kinds["softmax"] is kinds[MATCHED] is Softmax
