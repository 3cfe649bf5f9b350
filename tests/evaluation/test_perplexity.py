"""Losses of a text against whole distributions."""

import math

import pytest
import torch

from evaluation.tiny_lms import V, modes, recurrent, text, windowed
from wideneck import config as c
from wideneck.errors import WideneckError
from wideneck.evaluation import Perplexity, static_perplexity
from wideneck.evaluation.perplexity import total

HEADS = {"softmax": c.Softmax(), "moss": c.Mixture(activation=c.Sigsoftmax(), num_components=3)}


@pytest.mark.parametrize("head", HEADS)
def test_the_loss_is_that_of_the_whole_distributions(head):
    model, ids = recurrent(HEADS[head]), text(61)
    found = static_perplexity(model, ids, batch_size=3, segment=7, num_bytes=100)
    rows = ids[:60].view(3, 20)
    with torch.no_grad():
        log_probs, _ = model.eval().log_probs(rows[:, :-1])
    nll = -log_probs.gather(2, rows[:, 1:, None])
    assert found.loss == pytest.approx(nll.mean().item(), rel=1e-12)
    assert found.perplexity == pytest.approx(math.exp(nll.mean().item()), rel=1e-12)
    assert found.num_tokens == nll.numel()
    assert found.bits_per_byte == pytest.approx(nll.sum().item() / math.log(2) / 100, rel=1e-12)


def test_windows_are_averaged_over_tokens_not_over_windows():
    model, ids = windowed(), text(9)  # a window of 6 predictions, one of 2
    found = static_perplexity(model, ids, batch_size=4)
    with torch.no_grad():
        parts = [model.log_probs(ids[None, s:e])[0][0] for s, e in ((0, 6), (6, 8))]
    nll = -torch.cat(parts).gather(1, ids[1:, None])
    assert found.loss == pytest.approx(nll.mean().item(), rel=1e-12)
    assert found.bits_per_byte is None
    assert "windows of 6" in found.conventions


def test_a_model_that_knows_nothing_has_the_perplexity_of_its_vocabulary():
    model = recurrent()
    for parameter in model.head.parameters():
        parameter.data.zero_()
    assert static_perplexity(model, text(), batch_size=1).perplexity == pytest.approx(V)


def test_no_dropout_acts_and_modes_come_back():
    plain, dropped = recurrent(), recurrent(rate=0.7)
    dropped.head.eval()
    before = modes(dropped)
    assert static_perplexity(dropped, text(), batch_size=2) == static_perplexity(
        plain, text(), batch_size=2
    )
    assert modes(dropped) == before


def test_modes_come_back_after_an_error():
    model = recurrent()
    with pytest.raises(ZeroDivisionError):
        static_perplexity(model, text(), batch_size=1, segment=9, progress=lambda *_: 1 / 0)
    assert all(modes(model))


def test_a_hopeless_model_has_its_loss_and_the_largest_perplexity():
    """exp(709.8) is the last that float64 holds."""
    model, ids = recurrent(), text()
    model.head.weight.data.mul_(1e5)
    found = static_perplexity(model, ids, batch_size=1)
    with torch.no_grad():
        log_probs, _ = model.eval().log_probs(ids[None, :-1])
    nll = -log_probs[0].gather(1, ids[1:, None]).mean().item()
    assert nll > 700
    assert found.loss == pytest.approx(nll, rel=1e-12)
    assert found.perplexity == math.exp(700)


def test_a_loss_that_is_not_finite_is_refused():
    model = recurrent()
    model.head.weight.data[3] = torch.nan
    with pytest.raises(WideneckError, match="loss on this text is nan"):
        static_perplexity(model, text(), batch_size=1)


def test_losses_in_float32_are_summed_in_float64():
    """In float32 there is no odd number beyond 2^24."""
    assert total(torch.tensor([2.0**24, 1.0, 1.0, 1.0])) == 2.0**24 + 3


def test_tokens_of_no_bytes_have_no_bits_a_byte():
    """The last line of a text without its end: its `<eos>` stands for nothing."""
    assert Perplexity.of(3.0, 1, "", 0).bits_per_byte is None
    assert Perplexity.of(3.0, 1, "", 6).bits_per_byte == pytest.approx(0.5 / math.log(2))


def test_a_text_is_read_in_segments_as_long_as_asked_for():
    done = []
    model = recurrent()
    static_perplexity(
        model, text(41), batch_size=2, segment=7, progress=lambda _, n, total: done.append(n)
    )
    assert done == [14, 28, 38]
