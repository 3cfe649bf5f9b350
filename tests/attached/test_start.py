"""Where a head starts: at the predictions of the model it is attached to."""

import pytest
import torch
from attachable import BENT, PAIRS, attached, token_ids

import wideneck as wn
from tiny import tiny_model
from wideneck.attached.probe import probe_logits, random_ids
from wideneck.config import HEADS


@pytest.mark.parametrize(("case", "head"), PAIRS)
@torch.no_grad()
def test_the_first_predictions_are_those_of_the_model(case, head):
    original, model = tiny_model(case), attached(case, head)
    for seed in range(3):
        ids = token_ids(seed)
        expected = original(input_ids=ids).logits.log_softmax(-1)
        moved = (model(input_ids=ids).logits - expected).abs().max()
        assert moved < (0.01 if head in BENT else 1e-5)


@pytest.mark.parametrize("head", ["sigsoftmax", "sigmoid", "gss", "moss"])
@torch.no_grad()
def test_a_model_of_large_logits_starts_as_near(head):
    original, model = tiny_model("llama"), tiny_model("llama")
    for each in (original, model):
        each.lm_head.weight.mul_(300)
    wn.attach(model, head)
    ids = token_ids(5)
    logits = original(input_ids=ids).logits
    assert logits.max() - logits.min() > 50
    moved = (model(input_ids=ids).logits - logits.log_softmax(-1)).abs().max()
    assert moved < (0.01 if head in BENT else 1e-4)


@torch.no_grad()
def test_half_precision_starts_as_near():
    original, model = tiny_model("llama").bfloat16(), tiny_model("llama").bfloat16()
    wn.attach(model, "sigsoftmax")
    ids = token_ids()
    expected = original(input_ids=ids).logits.float().log_softmax(-1)
    assert (model(input_ids=ids).logits - expected).abs().max() < 0.01
    assert model.lm_head.activation.shift.dtype == torch.float32


def test_the_shift_is_learned_and_its_first_gradient_nearly_dead():
    model = attached("llama", "sigsoftmax")
    ids = token_ids()
    model(input_ids=ids, labels=ids).loss.backward()
    gradient = model.lm_head.activation.shift.grad
    assert 0 < gradient.abs() < 0.0068  # e^-5


def test_the_slope_of_gss_learns_from_the_first_step_and_the_bend_does_not():
    model = attached("llama", "gss")
    ids = token_ids()
    out = model(input_ids=ids, labels=ids)
    out.loss.backward()
    activation = model.lm_head.activation
    assert activation.slope.item() == 1
    assert activation.bend.grad.abs() < 1e-6  # rounding alone

    logits = tiny_model("llama")(input_ids=ids).logits[:, :-1]
    error = logits.softmax(-1) - torch.nn.functional.one_hot(ids[:, 1:], logits.shape[-1])
    slope = (error * (logits - activation.bend).sigmoid().log()).sum(-1).mean()
    torch.testing.assert_close(activation.slope.grad[0], slope)
    assert slope.abs() > 1e-3


def test_the_probe_leaves_the_random_state_and_the_mode_alone():
    model = tiny_model("llama").train()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    found = probe_logits(model)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert found.lowest < found.mean < found.highest


@pytest.mark.parametrize(
    ("head", "options", "expected"),
    [
        ("sigsoftmax", {"shift": 0.0}, wn.Sigsoftmax(shift=0.0)),
        ("sigmoid", {"shift": 2.0, "learned": True}, wn.Sigmoid(shift=2.0, learned=True)),
        (wn.Sigsoftmax(shift=3.0), {}, wn.Sigsoftmax(shift=3.0)),
        ({"name": "gss", "bend": 0.0, "slope": 2.0}, {}, wn.GSS()),
        ("gss", {"bend": 3.0}, wn.GSS(bend=3.0, slope=1.0, learned=True)),
        (
            "moss",
            {"num_components": 2, "activation": {"name": "sigsoftmax", "shift": 1.0}},
            wn.Mixture(
                num_components=2, projection="residual", activation=wn.Sigsoftmax(shift=1.0)
            ),
        ),
    ],
)
def test_a_number_that_the_user_gives_is_taken_as_it_is(head, options, expected):
    assert attached("llama", head, **options).lm_head.config == expected


def logits_of_the_probe(model):
    with torch.no_grad():
        return torch.cat(
            [model(input_ids=ids[None]).logits[0].double() for ids in random_ids(model)]
        )


def test_the_numbers_that_are_measured_are_those_of_the_logits():
    """gss bends at the mean logit, by the model's own probabilities; others beyond the range."""
    z = logits_of_the_probe(tiny_model("llama"))
    margin = 5 + 0.5 * float(z.max() - z.min())
    found = probe_logits(tiny_model("llama"))
    mean = float((z.softmax(-1) * z).sum(-1).mean())
    assert (found.lowest, found.highest, found.mean, found.margin) == pytest.approx(
        (float(z.min()), float(z.max()), mean, margin), rel=1e-5
    )
    for head, field, want in (
        ("gss", "bend", mean),
        ("sigsoftmax", "shift", margin - float(z.min())),
        ("sigmoid", "shift", -margin - float(z.max())),
    ):
        config = attached("llama", head).lm_head.config
        assert getattr(config, field) == pytest.approx(want, rel=1e-5), head
        assert config.learned


def test_a_config_with_default_numbers_gets_its_start():
    config = attached("llama", wn.Sigsoftmax()).lm_head.config
    assert config.learned
    assert config.shift > 5


def test_the_config_of_a_mixture_gets_the_projection_that_can_start():
    mixture = wn.Mixture(activation=wn.Sigsoftmax(), num_components=2)
    config = attached("llama", mixture).lm_head.config
    assert config.projection == "residual"
    assert config.activation.shift > 5


def test_the_shift_may_be_kept_fixed():
    model = attached("llama", "sigsoftmax", learned=False)
    assert not model.lm_head.config.learned
    assert model.lm_head.config.shift > 5


def test_a_soft_cap_becomes_the_activation():
    assert attached("gemma2-low-cap", "softmax").lm_head.config == wn.SoftCap(cap=5.0)
    mixture = attached("gemma2-low-cap", "mos").lm_head.config
    assert mixture.activation == wn.SoftCap(cap=5.0)


@pytest.mark.parametrize(
    ("case", "head", "options", "sentence"),
    [
        ("llama", "relu", {}, "relu head cannot start from a model's predictions"),
        ("llama", "mos", {"activation": "relu"}, "relu head cannot start"),
        ("llama", "low_rank", {}, "rank=0.5, or with what it may lose, nats=0.05; neither came"),
        ("gemma2", wn.LowRank(rank=2), {}, "caps its logits softly at 30, from which a low_rank"),
        ("llama", "softmax", {"nats": 0.1}, "nats is for a low_rank head"),
        ("llama", "mos", {"text": "a.txt"}, "text is for a low_rank head"),
        ("llama", "mos", {"embedding_size": 3}, "embedding_size cannot start from a model's"),
        (
            "llama",
            {"name": "moc", "embedding_size": 3, "projection": "tanh"},
            {},
            "embedding_size can",
        ),
        ("llama", "mos", {"embedding_size": 3, "projection": "residual"}, "'tanh' alone"),
        ("llama", "softcap", {}, "which has no soft cap"),
        ("llama", "moc", {"projection": "tanh"}, "projection='tanh' cannot start"),
        ("gemma2", "moss", {}, "caps its logits softly at 30"),
        ("gemma2", "moc", {}, "caps its logits softly at 30"),
        ("gemma2", "gss", {}, "attach 'softmax', 'softcap' or 'mos'"),
        ("llama", "sigsoftmx", {}, "Did you mean 'sigsoftmax'?"),
        ("llama", "mos", {"num_component": 2}, "Did you mean 'num_components'?"),
        ("llama", 3, {}, "name or config.*got int"),
    ],
)
def test_a_head_that_cannot_start_there_is_refused(case, head, options, sentence):
    model = tiny_model(case)
    with pytest.raises(wn.WideneckError, match=sentence.replace("?", r"\?")):
        wn.attach(model, head, **options)
    assert type(model.lm_head) is torch.nn.Linear


def test_every_head_is_either_attached_or_refused():
    assert {head for _, head in PAIRS} | {"relu"} == set(HEADS)
