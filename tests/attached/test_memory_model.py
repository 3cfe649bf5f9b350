"""A model with a memory against the definition, computed from its own hidden states in float64."""

import copy
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from remembering import DECODERS, ENCODER_DECODERS, MODELS, model_of, prompts, remembering

import wideneck as wn
from memory.slow_memory import slow_mixture, slow_ranking, slow_sees
from tiny import V
from wideneck.attached.probe import random_ids

F64 = torch.float64
KINDS = [
    {},
    {"mixture": "linear", "weight": 0.3},
    {"scores": "logits", "bias": 0.0},
    {"window": 3},
    {"separator": 5},
]


def states(model, **inputs):
    """What enters the head, and the encoder's states where there is one."""
    kept = []
    layer = model.get_output_embeddings()
    hook = layer.register_forward_pre_hook(lambda _, args: kept.append(args[0].detach()))
    with torch.no_grad():
        result = model(**inputs)
    hook.remove()
    return kept[0], getattr(result, "encoder_last_hidden_state", None)


def definition(model, inputs, decoder=None):
    """p (B, T, V) by loops."""
    config, head = model.cache_memory.config, model.get_output_embeddings()
    given = inputs if decoder is None else {**inputs, "decoder_input_ids": decoder}
    hidden, encoded = states(model, **given)
    ids, valid = inputs["input_ids"], inputs["attention_mask"].bool()
    keys = hidden if encoded is None else encoded
    document = (ids == config.separator).cumsum(-1) if config.separator else None
    rows = []
    for b in range(hidden.shape[0]):
        for t in range(hidden.shape[1]):
            z = F.linear(hidden[b, t], head.weight) * head.logit_scale
            s = keys[b] @ hidden[b, t] / keys.shape[-1] ** 0.5
            s = s / config.temperature + config.bias
            if encoded is not None:
                seen, values = valid[b].tolist(), ids[b]
            else:
                own = None if document is None else document[b].tolist()
                limits = {"window": config.window, "document": own}
                seen = [
                    slow_sees(t, j, valid[b].tolist(), **limits) for j in range(len(ids[b]) - 1)
                ]
                values, s = ids[b, 1:], s[:-1]
            rows.append(slow_mixture(config, z, s, seen, values, head.vocab_size))
    return torch.stack(rows).view(*hidden.shape[:2], -1)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("options", KINDS)
def test_logits_are_the_mixture_by_its_definition(name, options):
    model = remembering(name, F64, learned=False, **options)

    with torch.no_grad():
        log_p = model(**prompts()).logits

    real = prompts()["attention_mask"].bool()
    torch.testing.assert_close(log_p.exp()[real], definition(model, prompts())[real])


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_an_encoders_memory_is_the_source(name):
    model, decoder = remembering(name, F64, learned=False), torch.randint(3, 9, (3, 4))

    with torch.no_grad():
        log_p = model(**prompts(), decoder_input_ids=decoder).logits

    torch.testing.assert_close(log_p.exp(), definition(model, prompts(), decoder))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("options", [*KINDS[:3], {"loss": "cross_entropy"}, {"reduction": "sum"}])
def test_the_loss_is_both_terms_by_their_definition(name, options):
    model = remembering(name, F64, learned=False, alpha=0.7, margin=0.1, **options)
    config, head = model.cache_memory.config, model.get_output_embeddings()
    inputs = prompts()
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    labels[2, :4] = -100
    if name in ENCODER_DECODERS:
        decoder = model.prepare_decoder_input_ids_from_labels(labels)
        hidden, keys = states(model, **inputs, decoder_input_ids=decoder)
        target, values = labels, inputs["input_ids"]
        seen = inputs["attention_mask"].bool()[:, None].expand(-1, target.shape[1], -1)
        p = definition(model, inputs, decoder)
    else:
        hidden, _ = states(model, **inputs)
        target, values, keys = (
            F.pad(labels, (0, 1), value=-100)[:, 1:],
            inputs["input_ids"][:, 1:],
            hidden[:, :-1],
        )
        seen = wn.memory.visible_history(inputs["attention_mask"].bool())
        p = definition(model, inputs)
    if options.get("loss") == "cross_entropy":
        p = (F.linear(hidden, head.weight) * head.logit_scale).softmax(-1)
    kept = target != -100
    likelihood = -p.gather(-1, target.clamp(min=0)[..., None])[..., 0].log()[kept].mean()
    similarity = hidden @ keys.mT / hidden.shape[-1] ** 0.5 / config.temperature
    ranking = slow_ranking(
        similarity, seen, values, target, model.get_input_embeddings().weight,
        margin=0.1, reduction=config.reduction, rank_over="visible",
    )  # fmt: skip
    if config.reduction == "sum":
        ranking = ranking / kept.sum()

    loss = model(**inputs, labels=labels).loss

    torch.testing.assert_close(loss, likelihood + 0.7 * ranking)


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("scores", ["log_probs", "logits"])
def test_in_training_no_logits_are_formed_and_the_loss_is_the_same(name, scores):
    model = remembering(name, F64, scores=scores)
    labels = prompts()["input_ids"]
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    evaluated = model(**prompts(), labels=labels)
    trained = model.train()(**prompts(), labels=labels)

    assert trained.logits is None
    torch.testing.assert_close(trained.loss, evaluated.loss)
    trained.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert model.cache_memory.bias.grad.abs() > 0


@pytest.mark.parametrize("name", DECODERS)
def test_padding_on_either_side_and_neighbours_change_nothing(name):
    model = remembering(name, F64)
    row = torch.tensor([[4, 5, 4, 6, 5, 4]])
    alone = model(row).logits[0]
    inputs, places = torch.full((2, 9), 2), torch.zeros(2, 9, dtype=torch.long)
    for b, start in enumerate((3, 0)):
        inputs[b, start : start + 6], places[b, start : start + 6] = row, 1
    positions = (places.cumsum(-1) - 1).clamp(min=0)

    both = model(inputs, attention_mask=places, position_ids=positions).logits

    torch.testing.assert_close(both[0, 3:], alone)
    torch.testing.assert_close(both[1, :6], alone)


def test_masked_labels_of_the_context_change_no_other_loss():
    """The released code read the memory's tokens from the labels, and so found none."""
    model = remembering("llama", F64, alpha=0.0)
    ids = torch.tensor([[4, 5, 6, 4, 5, 6, 4, 5]])
    only_last = ids.clone()
    only_last[:, :-1] = -100
    whole = -model(ids).logits[0, -2].log_softmax(-1)[5]

    loss = model(ids, labels=only_last).loss
    released = remembering("llama", F64, alpha=0.0, values="labels")(ids, labels=only_last).loss

    torch.testing.assert_close(loss, whole)
    assert released > loss


@pytest.mark.parametrize("name", MODELS)
def test_at_the_start_the_predictions_move_by_a_hundredth(name):
    model = model_of(name)
    more = {"decoder_input_ids": prompts()["input_ids"]} if name in ENCODER_DECODERS else {}
    before = model(**prompts(), **more).logits.softmax(-1)

    after = wn.attach_memory(model)(**prompts(), **more).logits.exp()

    real = prompts()["attention_mask"].bool()
    assert (before - after).abs().sum(-1)[real].mean() < 0.05
    assert (before - after).abs().max() > 0


@torch.no_grad()
@pytest.mark.parametrize("name", DECODERS)
def test_at_the_start_the_odds_of_the_memory_are_a_hundredth_on_the_tokens_of_the_probe(name):
    """Told from the predictions alone: a token that is not in the context loses the share."""
    model = model_of(name, F64)
    ids = random_ids(model)
    before = model(ids).logits.softmax(-1)

    after = wn.attach_memory(model)(ids).logits.exp()

    shares = []
    for row, (was, now) in zip(ids.tolist(), zip(before, after, strict=True), strict=True):
        absent = min(set(range(V)) - set(row))
        shares.append(1 - now[1:, absent] / was[1:, absent])
    odds = torch.stack(shares).logit().mean()
    assert odds.item() == pytest.approx(math.log(0.01 / 0.99), rel=1e-6)  # a bias in float32


def test_a_context_of_one_token_is_the_models_own_prediction():
    model = model_of("llama")
    one = torch.tensor([[5], [7]])
    before = model(one).logits.log_softmax(-1)
    wn.attach_memory(model, bias=5.0)

    torch.testing.assert_close(model(one).logits, before)
    assert model(one, labels=one).loss.item() == 0  # nothing to predict


def test_labels_that_are_all_ignored_give_a_loss_of_0_and_gradients_of_0():
    model, inputs = remembering("llama").train(), prompts()
    nothing = torch.full_like(inputs["input_ids"], -100)

    loss = model(**inputs, labels=nothing).loss
    loss.backward()

    assert loss.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_a_sequence_of_padding_gives_no_nan(name):
    model, inputs = remembering(name).train(), prompts()
    inputs["attention_mask"][1] = 0
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    if name == "mbart":  # which finds no first token for a row without a target
        inputs["decoder_input_ids"] = inputs["input_ids"]

    loss = model(**inputs, labels=labels).loss
    loss.backward()

    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", DECODERS)
def test_the_first_prediction_is_the_models_own(name):
    model = model_of(name)
    before = model(**prompts()).logits[1, 0].log_softmax(-1)
    wn.attach_memory(model, bias=5.0)
    torch.testing.assert_close(model(**prompts()).logits[1, 0], before)


def test_the_memory_waits_for_its_warm_up():
    model = remembering("llama", warmup_batches=2).train()
    labels = prompts()["input_ids"]
    losses = [model(**prompts(), labels=labels).loss.item() for _ in range(4)]
    model.cache_memory.config = wn.memory.Memory(loss="cross_entropy", alpha=0.0, bias=0.0)
    model.cache_memory.num_batches.fill_(9)
    plain = model(**prompts(), labels=labels).loss.item()

    assert losses[0] == losses[1] == pytest.approx(plain)
    assert losses[2] == losses[3] != pytest.approx(plain)


def test_a_memory_goes_on_any_head_and_any_normalizer():
    model = wn.attach(model_of("llama"), "moss", num_components=2)
    model = wn.attach_memory(model, bias=0.0)
    wn.attention.use(model, "entmax15")

    result = model(**prompts(), labels=prompts()["input_ids"])
    torch.testing.assert_close(result.logits.exp().sum(-1), torch.ones(3, 8))
    assert model.generate(**prompts(), max_new_tokens=3).shape[0] == 3


def test_logits_may_be_asked_for_some_positions():
    model = remembering("llama")
    every = model(**prompts()).logits
    torch.testing.assert_close(model(**prompts(), logits_to_keep=2).logits, every[:, -2:])
    some = torch.tensor([1, 4])
    torch.testing.assert_close(model(**prompts(), logits_to_keep=some).logits, every[:, some])


def test_half_precision_gives_no_nan():
    model = remembering("llama", torch.bfloat16).train()
    loss = model(**prompts(), labels=prompts()["input_ids"]).loss
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_models_are_copied_and_pickled():
    model = remembering("llama")
    want = model(**prompts()).logits
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(**prompts()).logits, want)
