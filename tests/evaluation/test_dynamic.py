"""Dynamic evaluation against the rule written out, and what it must leave alone."""

import math
from dataclasses import replace

import pytest
import torch

from evaluation.tiny_lms import D, V, modes, recurrent, text, windowed
from wideneck import config as c
from wideneck.errors import WideneckError
from wideneck.evaluation import (
    DynamicEvaluation,
    dynamic_perplexity,
    gradient_statistics,
    static_perplexity,
)
from wideneck.models.small.config import AwdLstm, Transformer
from wideneck.models.small.language_model import language_model

TRAIN, TEST = text(70, seed=1), text(24, seed=2)
NEW = DynamicEvaluation(learning_rate=0.02, decay=0.6, epsilon=0.01)
OLD = replace(NEW, decay=2.4, scaling="old")


def nll(weights, inputs, targets, h):
    """Losses of one row or of several, step by step, and the last state; U, E, W and b."""
    losses = []
    for x, y in zip(inputs.unbind(-1), targets.unbind(-1), strict=True):
        h = (weights["E"][x] + h @ weights["U"].T).tanh()
        z = h @ weights["W"].T + weights["b"]
        losses.append(z.exp().sum(-1).log() - z.gather(-1, y[..., None])[..., 0])
    return torch.stack(losses, -1), h.detach()


def segments(num_predictions, length):
    return [(s, min(s + length, num_predictions)) for s in range(0, num_predictions, length)]


def slow(model, settings, *, batch_size, segment):
    """The loss a token, by the formulas of the paper (or of the first code) in explicit loops."""
    tied = model.tied
    start = {"U": model.backbone.U, "E": model.backbone.words.weight, "b": model.head.bias}
    if not tied:
        start["W"] = model.head.weight
    start = {name: p.detach().clone() for name, p in start.items()}

    def gradients(now, inputs, targets, h):
        leaves = {name: value.clone().requires_grad_() for name, value in now.items()}
        losses, h = nll(leaves | ({"W": leaves["E"]} if tied else {}), inputs, targets, h)
        losses.mean().backward()
        return losses.detach(), {name: leaf.grad for name, leaf in leaves.items()}, h

    rows = TRAIN[: len(TRAIN) // batch_size * batch_size].view(batch_size, -1)
    squares = {name: torch.zeros_like(value) for name, value in start.items()}
    h, num_batches = torch.zeros(batch_size, D).double(), 0
    for s, e in segments(rows.shape[1] - 1, segment):
        _, g, h = gradients(start, rows[:, s:e], rows[:, s + 1 : e + 1], h)
        squares = {name: squares[name] + g[name] ** 2 for name in squares}
        num_batches += 1
    if settings.scaling == "new":
        ms = {name: (value / num_batches).sqrt() for name, value in squares.items()}
        norm = sum(value.mean() for value in ms.values()) / len(ms)
    else:
        ms = {name: value.sqrt() for name, value in squares.items()}
        norm = sum(value.mean() for value in ms.values())
    decrate = {name: (value / norm).clamp(max=1 / settings.decay) for name, value in ms.items()}
    clipped = any((rate == 1 / settings.decay).any() for rate in decrate.values())

    now, h, losses = start, torch.zeros(D).double(), []
    for s, e in segments(len(TEST) - 1, settings.segment):
        loss, g, h = gradients(now, TEST[s:e], TEST[s + 1 : e + 1], h)
        losses.append(loss)
        now = {
            name: now[name]
            + settings.decay * decrate[name] * (start[name] - now[name])
            - settings.learning_rate * g[name] / (ms[name] + settings.epsilon)
            for name in now
        }
    return torch.cat(losses), clipped


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("settings", [NEW, OLD], ids=["new", "old"])
def test_it_is_the_rule_written_out(settings, tied):
    """Five segments, the last of them shorter; some rates are clipped."""
    model = recurrent(tied=tied)
    statistics = gradient_statistics(model, TRAIN, batch_size=4, segment=5)
    found = dynamic_perplexity(model, TEST, statistics, settings, num_bytes=50)
    losses, clipped = slow(model, settings, batch_size=4, segment=5)
    assert clipped
    assert found.num_tokens == len(losses) == len(TEST) - 1
    assert found.loss == pytest.approx(losses.mean().item(), rel=1e-10)
    assert found.bits_per_byte == pytest.approx(losses.sum().item() / math.log(2) / 50, rel=1e-10)
    static = static_perplexity(model, TEST, batch_size=1).loss
    assert abs(found.loss - static) > 1e-3


def test_old_numbers_are_new_ones_scaled():
    """What the flag --oldhyper of the released code does."""
    model = recurrent()
    statistics = gradient_statistics(model, TRAIN, batch_size=4)
    root = statistics.num_batches**0.5
    same = replace(
        OLD,
        scaling="new",
        learning_rate=OLD.learning_rate / root,
        epsilon=OLD.epsilon / root,
        decay=OLD.decay / len(list(model.parameters())),
    )
    first, second = (dynamic_perplexity(model, TEST, statistics, s).loss for s in (OLD, same))
    assert first == pytest.approx(second, rel=1e-12)


@pytest.mark.parametrize("make", [recurrent, windowed])
def test_the_first_piece_is_measured_before_anything_is_learned(make):
    model = make()
    statistics = gradient_statistics(model, TRAIN, batch_size=4)
    length = model.backbone.context or NEW.segment
    for num_tokens, equal in ((length + 1, True), (2 * length + 1, False)):
        ids = TEST[:num_tokens]
        found = dynamic_perplexity(model, ids, statistics, NEW)
        static = static_perplexity(model, ids, batch_size=1)
        assert (found.loss == pytest.approx(static.loss, rel=1e-12)) == equal


@pytest.mark.parametrize("make", [recurrent, windowed])
def test_without_a_learning_rate_nothing_changes(make):
    model = make()
    statistics = gradient_statistics(model, TRAIN, batch_size=4)
    found = dynamic_perplexity(model, TEST, statistics, replace(NEW, learning_rate=0.0))
    static = static_perplexity(model, TEST, batch_size=1)
    assert found.loss == pytest.approx(static.loss, rel=1e-12)


def test_a_text_that_repeats_itself_is_learned():
    model = recurrent()
    statistics = gradient_statistics(model, TRAIN, batch_size=4)
    ids = TEST[:6].repeat(12)
    found = dynamic_perplexity(model, ids, statistics, replace(NEW, decay=0.02))
    assert found.loss < 0.8 * static_perplexity(model, ids, batch_size=1).loss


@pytest.mark.parametrize("failing", [False, True])
def test_weights_modes_and_gradients_are_as_before(failing):
    model = recurrent(c.Mixture(num_components=2), rate=0.5)
    model.head.eval()
    statistics = gradient_statistics(model, TRAIN, batch_size=4)
    for p in model.parameters():
        p.grad = torch.full_like(p, 7.0)
    before = ({n: t.clone() for n, t in model.state_dict().items()}, modes(model))
    changed = []

    def progress(*_):
        changed.append(not torch.equal(model.head.weight, before[0]["head.weight"]))
        if failing and len(changed) == 2:
            raise KeyboardInterrupt

    if failing:
        with pytest.raises(KeyboardInterrupt):
            dynamic_perplexity(model, TEST, statistics, NEW, progress=progress)
    else:
        dynamic_perplexity(model, TEST, statistics, NEW, progress=progress)
    assert all(changed)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[0][name]), name
    assert modes(model) == before[1]
    assert all((p.grad == 7).all() for p in model.parameters())


def test_modes_come_back_after_statistics_that_fail():
    model = recurrent()
    with pytest.raises(ZeroDivisionError):
        gradient_statistics(model, TRAIN, batch_size=4, progress=lambda *_: 1 / 0)
    assert all(modes(model))


DROPOUTS = [name for name in AwdLstm.__dataclass_fields__ if name.endswith("_dropout")]
GPT2 = {"n_embd": 8, "n_layer": 1, "n_head": 2}
GPT2_DROPOUTS = ["resid_pdrop", "embd_pdrop", "attn_pdrop"]


def dropping(kind, rate):
    torch.manual_seed(0)
    head = c.Mixture(activation=c.Sigsoftmax(), num_components=2, dropout=rate)
    if kind == "awd_lstm":
        model = AwdLstm(embedding_size=6, hidden_size=7, **dict.fromkeys(DROPOUTS, rate))
    else:
        options = GPT2 | dict.fromkeys(GPT2_DROPOUTS, rate)
        model = Transformer(context=6, options=options)
    return language_model(model, head, vocab_size=V)


@pytest.mark.parametrize("kind", ["awd_lstm", "gpt2"])
def test_every_dropout_is_off(kind):
    """The weights of a model that drops half of everything give what they give in one without."""
    plain, dropped = dropping(kind, 0.0), dropping(kind, 0.5)
    dropped.load_state_dict(plain.state_dict())
    losses = []
    for model in (plain, dropped, dropped):
        statistics = gradient_statistics(model, TRAIN, batch_size=4)
        losses.append(dynamic_perplexity(model, TEST, statistics, NEW).loss)
    assert losses[0] == losses[1] == losses[2]
    ids, target = TRAIN[None, :6], TRAIN[None, 1:7]
    assert dropped(ids, target).nll != dropped(ids, target).nll  # they are there, and back


def test_it_runs_where_gradients_are_off():
    model = recurrent()
    with torch.no_grad():
        statistics = gradient_statistics(model, TRAIN, batch_size=4)
        inside = dynamic_perplexity(model, TEST, statistics, NEW)
    assert inside == dynamic_perplexity(model, TEST, statistics, NEW)


def test_weights_that_are_frozen_stay_out_of_it():
    model = recurrent()
    model.backbone.requires_grad_(False)
    before = model.backbone.U.clone()
    statistics = gradient_statistics(model, TRAIN, batch_size=4)
    assert len(statistics.sum_of_squares) == 2
    dynamic_perplexity(
        model,
        TEST,
        statistics,
        NEW,
        progress=lambda *_: torch.testing.assert_close(model.backbone.U, before),
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scaling": "nwe"}, "Did you mean 'new'"),
        ({"decay": 0.0}, "> 0 for decay"),
        ({"epsilon": 0.0}, "> 0 for epsilon"),
        ({"learning_rate": -1.0}, ">= 0 for learning_rate"),
        ({"segment": 0}, ">= 1 for segment"),
    ],
)
def test_numbers_that_make_no_rule_are_refused(options, message):
    with pytest.raises(WideneckError, match=message):
        DynamicEvaluation(**options)


def test_the_conventions_hold_every_number():
    model = recurrent()
    statistics = gradient_statistics(model, TRAIN, batch_size=4)
    found = dynamic_perplexity(model, TEST, statistics, DynamicEvaluation.published()).conventions
    for part in ("old scaling", "rate 0.002", "decay 0.02", "epsilon 0.001", "every 5 tokens"):
        assert part in found


def test_squares_of_small_gradients_in_bfloat16_add_up_in_float32():
    """Against the same gradients of bfloat16, segment by segment, squared and added in float64."""
    model, rows = recurrent().bfloat16(), TRAIN[:68].view(4, 17)
    statistics = gradient_statistics(model, TRAIN, batch_size=4, segment=2)
    exact, state = [0.0] * 4, None
    for start in range(0, 16, 2):
        ids, target = rows[:, start : start + 2], rows[:, start + 1 : start + 3]
        output = model.backbone(ids, state)
        state = [part.detach() for part in output.state]
        model.zero_grad()
        model.head.nll(output.hidden, target).mean().backward()
        given = [parameter.grad.double() for parameter in model.parameters()]
        exact = [total + g.square() for total, g in zip(exact, given, strict=True)]
    for ours, true in zip(statistics.sum_of_squares, exact, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), true, rtol=1e-6, atol=1e-12)
