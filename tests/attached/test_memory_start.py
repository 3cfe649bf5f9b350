"""Where a memory's temperature and bias start: measured, on the very tokens of the probe."""

import math

import pytest
import torch
import torch.nn.functional as F
from remembering import ENCODER_DECODERS, MODELS, model_of

import wideneck as wn
from memory.slow_memory import slow_sees
from wideneck.attached.probe import random_ids

F64 = torch.float64
LOG_ODDS = math.log(0.01 / 0.99)


def seen_by_the_probe(model):
    """Similarities of the memories that are visible, a list of each query, and logits."""
    kept, ids = [], random_ids(model)
    layer = model.get_output_embeddings()
    hook = layer.register_forward_pre_hook(lambda _, args: kept.append(args[0]))
    inputs = {"input_ids": ids}
    both = model.config.is_encoder_decoder
    with torch.no_grad():
        result = model(**inputs, **({"decoder_input_ids": ids} if both else {}), use_cache=False)
    hook.remove()
    queries, real = kept[0], [True] * ids.shape[1]
    keys = result.encoder_last_hidden_state if both else queries
    rows = []
    for b, t in [(b, t) for b in range(len(ids)) for t in range(ids.shape[1])]:
        places = [j for j in range(ids.shape[1]) if both or (j < t and slow_sees(t, j, real))]
        rows.append(keys[b, places] @ queries[b, t] / math.sqrt(queries.shape[-1]))
    return rows, result.logits.flatten(0, 1), queries.flatten(0, 1)


def mean_log_odds(rows, memory, normalizers=None):
    """Of the memory against the model, over the queries that see one."""
    odds = [
        (row / memory.temperature + memory.bias).logsumexp(0) - (0 if z is None else z)
        for row, z in zip(rows, normalizers or [None] * len(rows), strict=True)
        if len(row)
    ]
    return float(torch.stack(odds).mean())


@pytest.mark.parametrize("name", MODELS)
def test_scores_spread_by_1_and_the_memory_has_a_hundredth(name):
    model = model_of(name, F64)
    rows, _, _ = seen_by_the_probe(model)
    memory = wn.attach_memory(model).cache_memory.config
    assert float(torch.cat(rows).std()) / memory.temperature == pytest.approx(1, rel=1e-9)
    assert mean_log_odds(rows, memory) == pytest.approx(LOG_ODDS, abs=1e-9)


@pytest.mark.parametrize("name", ["llama", *ENCODER_DECODERS])
def test_beside_raw_logits_the_share_is_measured_against_their_sum(name):
    model = model_of(name, F64)
    rows, logits, _ = seen_by_the_probe(model)
    memory = wn.attach_memory(model, scores="logits").cache_memory.config
    normalizers = list(logits.logsumexp(-1))
    assert mean_log_odds(rows, memory, normalizers) == pytest.approx(LOG_ODDS, abs=1e-9)


@pytest.mark.parametrize("head", ["softmax", "sigsoftmax"])
def test_under_a_head_the_sum_is_that_of_its_scores_though_its_logits_are_normalized(head):
    model = wn.attach(model_of("llama", F64), head)
    rows, _, hidden = seen_by_the_probe(model)
    z = F.linear(hidden, model.lm_head.weight)
    if head == "sigsoftmax":
        z = z + model.lm_head.activation.shift
        z = z + F.logsigmoid(z)
    memory = wn.attach_memory(model, scores="logits").cache_memory.config
    normalizers = list(z.detach().logsumexp(-1))
    assert mean_log_odds(rows, memory, normalizers) == pytest.approx(LOG_ODDS, abs=1e-6)


@pytest.mark.parametrize("given", [{"temperature": 3.0}, {"bias": -2.0}])
def test_a_number_that_is_given_is_kept_and_the_other_one_fits_it(given):
    model = model_of("llama", F64)
    rows, _, _ = seen_by_the_probe(model)
    memory = wn.attach_memory(model, **given).cache_memory.config
    if "bias" in given:
        assert memory.bias == -2.0
        assert memory.temperature == pytest.approx(float(torch.cat(rows).std()), rel=1e-9)
    else:
        assert memory.temperature == 3.0
        assert mean_log_odds(rows, memory) == pytest.approx(LOG_ODDS, abs=1e-9)


def test_a_linear_mixture_has_no_bias_and_a_model_of_one_state_a_finite_temperature():
    linear = wn.attach_memory(model_of("llama"), mixture="linear").cache_memory.config
    assert linear.bias == 0
    assert linear.temperature > 0
    model = model_of("llama")
    torch.nn.init.zeros_(model.model.norm.weight)
    flat = wn.attach_memory(model).cache_memory.config
    assert flat.temperature == pytest.approx(1e-6)
    assert math.isfinite(flat.bias)
