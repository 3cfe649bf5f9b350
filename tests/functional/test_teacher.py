"""Divergence from a teacher and soft targets against torch's formulas in float64."""

import pytest
import torch

import wideneck.functional as fn
from functional.fused_examples import ACTIVATIONS, inputs, learned, leaves
from functional.teacher_examples import (
    divergence_of,
    log_probs_of,
    soft_targets,
    teacher_inputs,
)
from functional.token_examples import ALL, dense
from wideneck.errors import WideneckError
from wideneck.functional import token_block

N, V = 7, 11
TEMPERATURES = {"one": 1.0, "hot": 1.8, "by token": torch.linspace(0.5, 1.7, N)}
BETAS = (0.0, 1.0, 0.3)
LEARNED = ("divergence", "cross_entropy")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def twin(example, activation, teacher, teacher_kind, soft, temperature, beta):
    kept = example["target"] != -100
    log_s = log_probs_of(example, activation, temperature)
    log_t = log_probs_of(teacher, teacher_kind, temperature)
    apart = divergence_of(log_s, log_t, beta)
    cross = -(soft["soft_probs"] * log_s.gather(-1, soft["soft_ids"])).sum(-1)
    return torch.where(kept, apart, 0), torch.where(kept, cross, 0)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_equals_the_formula_with_all_gradients(kind, mixture, temperature, beta):
    T = TEMPERATURES[temperature]
    example, activation = inputs(mixture), ACTIVATIONS[kind]()
    teacher, soft = teacher_inputs(not mixture), soft_targets()
    got = fn.linear_token_outputs(
        **example, **soft, activation=activation, temperature=T, beta=beta, chunk_size=3,
        teacher=fn.Teacher(**teacher, activation="sigsoftmax"), outputs=(*ALL, *LEARNED),
    )  # fmt: skip
    want = twin(example, activation, teacher, "sigsoftmax", soft, T, beta)
    others = dense(**example, activation=activation, temperature=T)
    torch.testing.assert_close((got.divergence, got.cross_entropy), want)
    torch.testing.assert_close(got.entropy, others.entropy)
    parameters, up = leaves(example) + learned(activation), torch.randn(4, N).double()
    ours = [got.divergence, got.cross_entropy, got.log_prob, got.entropy]
    theirs = [*want, others.log_prob, others.entropy]
    for chosen in ([0], [1], [0, 1, 2, 3]):
        mine, exact = (
            torch.autograd.grad(sum((x[i] * up[i]).sum() for i in chosen), parameters, retain_graph=True)
            for x in (ours, theirs)
        )  # fmt: skip
        torch.testing.assert_close(mine, exact)
