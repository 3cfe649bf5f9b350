"""Two models beside each other, against dense computations in float64 and simulated documents."""

import math
from copy import deepcopy

import pytest
import torch

import wideneck as wn
from attached.attachable import attached, shaken
from attached.remembering import MATTERS
from tiny import tiny_model
from tiny_text import character_tokenizer
from wideneck.data import Text, Windows, cut_windows
from wideneck.evaluation.comparison.beside import Measured, difference, groups_to_see
from wideneck.evaluation.comparison.distributions import FAR, divergences
from wideneck.evaluation.comparison.measuring import calibration
from wideneck.evaluation.comparison.over_models import over_models

LINES = "{0} green bottles hanging on wall {1}, line {2}!\n"
TEXT = Text(
    name="bottles",
    documents=["".join(LINES.format(k * d, k * k, d) for k in range(9)) for d in range(8)],
    sha256="0" * 64,
)
BOS = character_tokenizer(bos=True)
ASKED = {"text": TEXT, "tokenizer": BOS, "num_tokens": 320, "context": 20}


def with_memory():
    torch.manual_seed(0)
    return shaken(wn.attach_memory(tiny_model("gpt2"), **MATTERS))


MODELS = {
    "plain": lambda: shaken(tiny_model("llama")),
    "bias": lambda: shaken(tiny_model("phi")),
    "scaled": lambda: shaken(tiny_model("granite")),
    "capped": lambda: shaken(tiny_model("gemma2-low-cap")),
    "mixture": lambda: shaken(attached("gpt2", "mos", num_components=3)),
    "bent": lambda: shaken(attached("llama", "sigsoftmax", shift=0.0)),
}


@torch.no_grad()
def dense(model, num_tokens=320, context=20):
    """Log-probabilities (W, T, V) in float64, from the model's own logits, and the windows."""
    windows = cut_windows(TEXT, BOS, num_tokens=num_tokens, window=context, prefix=[0])
    logits = model.eval()(windows.ids).logits[:, -context:]
    return logits.double().log_softmax(-1), windows


@pytest.mark.parametrize("name", MODELS)
def test_every_number_is_that_of_the_models_own_logits(name):
    first, other = shaken(tiny_model("gpt2")), MODELS[name]()
    found = wn.compare(first, other, **ASKED)
    (p, windows), (q, _) = dense(first), dense(other)
    y = windows.targets[..., None]
    loss = [-x.gather(-1, y)[..., 0] for x in (p, q)]
    close = {"rel": 1e-4, "abs": 1e-6}
    apart = found.differences[0]
    assert apart.loss.value == pytest.approx((loss[1] - loss[0]).mean().item(), **close)
    assert apart.kl_from_first.value == pytest.approx(
        (p.exp() * (p - q)).sum(-1).mean().item(), **close
    )
    assert apart.kl_to_first.value == pytest.approx(
        (q.exp() * (q - p)).sum(-1).mean().item(), **close
    )
    same = (p.argmax(-1) == q.argmax(-1)).double().mean().item()
    assert apart.agreement.value == pytest.approx(same)
    bits = (loss[1] - loss[0]).sum().item() / math.log(2) / windows.num_bytes.sum().item()
    assert apart.bits_per_byte.value == pytest.approx(bits, **close)
    own = found.models[1]
    assert own.loss.value == pytest.approx(loss[1].mean().item(), **close)
    assert own.top1.value == pytest.approx((q.argmax(-1) == y[..., 0]).double().mean().item())
    ranks = (q > q.gather(-1, y)).sum(-1).flatten().double()
    assert own.median_rank == ranks.quantile(0.5).item()


@pytest.mark.parametrize(("name", "exists"), [("scaled", True), ("bias", True), ("mixture", False)])
def test_the_log_normalizer_is_that_of_the_scores(name, exists):
    model = MODELS[name]()
    found = wn.compare(model, model, **ASKED).models[0].log_normalizer
    assert (found is not None) == exists
    if found is not None:
        with torch.no_grad():
            _, windows = dense(model)
            z = model(windows.ids).logits[:, -20:].double().logsumexp(-1)
        assert found.mean == pytest.approx(z.mean().item(), rel=1e-4)
        assert found.sd == pytest.approx(z.std(correction=0).item(), rel=1e-2)


@pytest.mark.parametrize("name", ["plain", "mixture"])
def test_a_model_is_exactly_itself(name):
    found = wn.compare(MODELS[name](), MODELS[name](), **ASKED).differences[0]
    every = [found.loss, found.bits_per_byte, found.kl_from_first, found.kl_to_first]
    every += [kind.difference for kind in found.kinds]
    assert all(one.value == 0 for one in every)
    assert all(one.low <= 0 <= one.high for one in every if one.low is not None)
    assert found.agreement.value == 1
    assert found.documents_to_see is None
    assert found.better == found.worse == []


@pytest.mark.parametrize("size", [1e-3, 1e-2])
def test_noise_of_known_size_gives_the_predicted_divergence(size):
    """KL(p || p') = 1/2 Var_p(d) + O(d^3), d the change of the logits, in both directions."""
    model = shaken(tiny_model("llama"))
    noisy = deepcopy(model)
    torch.manual_seed(5)
    noisy.lm_head.weight.data.add_(size * torch.randn_like(noisy.lm_head.weight))
    found = wn.compare(model, noisy, **ASKED).differences[0]
    p, windows = dense(model)
    with torch.no_grad():
        z, moved = (m(windows.ids).logits[:, -20:].double() for m in (model, noisy))
    change = moved - z
    mean = (p.exp() * change).sum(-1, keepdim=True)
    predicted = (p.exp() * (change - mean) ** 2).sum(-1).mean().item() / 2
    assert found.kl_from_first.value == pytest.approx(predicted, rel=0.02)
    assert found.kl_to_first.value == pytest.approx(predicted, rel=0.02)


@pytest.mark.parametrize("size", [1e-4, 1.0, 30.0, 2 * FAR])
def test_divergences_are_those_of_float64(size):
    torch.manual_seed(0)
    z = 3 * torch.randn(20, 300)
    p = z.log_softmax(1)
    q = (z + size * torch.randn(20, 300)).log_softmax(1)
    found, wide = divergences(p, q), (p.double(), q.double())
    for value, (a, b) in ((found.forward, wide), (found.backward, wide[::-1])):
        exact = (a.exp() * (a - b) + b.exp() - a.exp()).sum(1)
        torch.testing.assert_close(value.double(), exact, rtol=1e-3, atol=1e-13)
        assert value.isfinite().all()


def simulated(rng, draws, num_documents=12, sd=0.1):
    """Differences of mean 0.05: a part that documents share, and one of each token."""
    shared = sd * torch.randn(draws, num_documents, 1, generator=rng)
    return 0.05 + shared + 0.2 * torch.randn(draws, num_documents, 8, generator=rng)


def beside(change, document):
    num_bytes = torch.full_like(document, 8)
    windows = Windows(ids=change, targets=change, document=document, num_bytes=num_bytes)
    zero = torch.zeros_like(change)
    return difference(
        Measured("a", zero, None), Measured("b", change, None), None, [], windows, str
    )


def test_intervals_over_documents_hold_the_truth_in_95_percent():
    rng = torch.Generator().manual_seed(2)
    found = [beside(change, torch.arange(12)).loss for change in simulated(rng, 400)]
    assert 0.93 <= sum(one.low <= 0.05 <= one.high for one in found) / 400 <= 0.97


def test_intervals_over_models_hold_the_truth_in_95_percent():
    rng = torch.Generator().manual_seed(3)
    first = torch.randn(400, 3, generator=rng)
    other = 0.5 + 1.5 * torch.randn(400, 4, generator=rng)
    pairs = zip(first.tolist(), other.tolist(), strict=True)
    found = [over_models("all", a, b) for a, b in pairs]
    assert 0.93 <= sum(one.low <= 0.5 <= one.high for one in found) / 400 <= 0.97


def test_so_many_documents_see_the_difference_in_80_percent():
    """The variance of a document's mean is 0.1^2 + 0.2^2 / 8, known from many documents."""
    rng = torch.Generator().manual_seed(4)
    many = beside(simulated(rng, 1, 3000)[0], torch.arange(3000))
    needed = many.documents_to_see
    expected = (1.959964 + 0.841621) ** 2 * (0.1**2 + 0.2**2 / 8) / 0.05**2
    assert needed == pytest.approx(expected, rel=0.15)
    found = [beside(change, torch.arange(needed)).loss for change in simulated(rng, 400, needed)]
    assert 0.73 <= sum(one.low > 0 for one in found) / 400 <= 0.87
    assert groups_to_see(many.loss) == needed


def test_models_that_differ_by_their_spread_need_four_times_as_many_for_half_of_it():
    def needed(difference):
        first, other = [0.0, 1.0, 2.0], [0.0 + difference, 1.0 + difference, 2.0 + difference]
        return over_models("all", first, other).models_to_see

    assert needed(1.0) == math.ceil(2 * (1.959964 + 0.841621) ** 2)
    assert needed(0.5) == pytest.approx(4 * needed(1.0), abs=4)
    assert over_models("all", [1.0], [1.0, 2.0]).low is None


def test_calibration_is_the_mean_distance_of_tenths():
    confidence = torch.arange(1, 21) / 20
    right = torch.tensor([False] * 10 + [True] * 10)
    found = calibration(confidence, right)
    expected = [abs(0.075 + 0.1 * i - (i >= 5)) for i in range(10)]
    assert found.error == pytest.approx(sum(expected) / 10)
    assert [one.num_tokens for one in found.bins] == [2] * 10
    shuffled = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    assert calibration(confidence[shuffled], right[shuffled]) == found


def test_a_memory_is_compared_by_its_losses_alone():
    found = wn.compare(shaken(tiny_model("gpt2")), with_memory(), **ASKED)
    apart = found.differences[0]
    assert apart.kl_from_first is None
    assert apart.agreement is None
    assert apart.kinds
    assert found.models[1].loss.value == pytest.approx(
        found.models[0].loss.value + apart.loss.value, rel=1e-6
    )
    assert any("predicts from a memory" in note for note in found.source.notes)


def test_examples_are_where_the_losses_differ_most():
    first, other = shaken(tiny_model("gpt2")), MODELS["plain"]()
    apart = wn.compare(first, other, **ASKED).differences[0]
    (p, windows), (q, _) = dense(first), dense(other)
    y = windows.targets[..., None]
    gain = (q - p).gather(-1, y)[..., 0]
    for shown, sign in ((apart.better, 1), (apart.worse, -1)):
        row, place = divmod(int((sign * gain).argmax()), 20)
        top = shown[0]
        assert top.target == BOS.decode(int(windows.targets[row, place]))
        assert top.first == pytest.approx(p[row, place, windows.targets[row, place]].exp().item())
        assert top.other_says == BOS.decode(int(q[row, place].argmax()))
        assert top.before.replace(" ", "").endswith(
            BOS.decode(windows.ids[row, 1 : place + 2].tolist()).replace(" ", "")
        )
        assert len({one.target for one in shown}) == len(shown)
