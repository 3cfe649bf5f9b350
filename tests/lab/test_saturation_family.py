"""What is told of a checkpoint, against plain formulas."""

import math
from dataclasses import asdict, replace

import pytest
import torch

from wideneck.errors import WideneckError
from wideneck.files.writing import json_text
from wideneck.lab.saturation.family import measure_checkpoint


def checkpoint(vocab_size=300, d=12, num_states=80, seed=0):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(vocab_size, d, generator=generator) * torch.logspace(0, -1, d)
    return weight + 0.1, torch.randn(num_states, d, generator=generator) + 0.5


def entropy(weights):
    p = weights / weights.sum()
    return math.log(len(p)) + (p * p.log()).sum().item()


def test_every_number_is_that_of_its_formula():
    weight, hidden = checkpoint()
    found = measure_checkpoint(7, 3.25, weight, hidden)
    assert (found.step, found.loss, found.vocab_size, found.hidden_size) == (7, 3.25, 300, 12)
    w = weight.double()
    for suffix, matrix in (("", w), ("_centred", w - w.mean(0))):
        s = torch.linalg.svdvals(matrix)
        expected = {
            "kl_sigma2": entropy(s**2),
            "kl_sigma": entropy(s),
            "second_value": (s[1] / s[0]).item(),
            "stable_rank": (s.square().sum() / s[0] ** 2).item(),
        }
        for name, value in expected.items():
            assert getattr(found, name + suffix) == pytest.approx(value, rel=1e-6)
    assert found.kl_sigma2_share == pytest.approx(found.kl_sigma2 / math.log(12))
    largest = torch.linalg.svdvals(w)[0]
    assert found.mean_row_share == pytest.approx(
        (300 * w.mean(0).square().sum() / largest**2).item()
    )
    h = hidden.double()
    for name, states in (("anisotropy", h), ("anisotropy_centred", h - h.mean(0))):
        unit = states / states.norm(dim=1, keepdim=True)
        pairs = (unit @ unit.T)[~torch.eye(80, dtype=bool)]
        assert getattr(found, name) == pytest.approx(pairs.mean().item(), rel=1e-6)
    assert found.num_states == 80


def test_a_row_added_to_all_rows_moves_what_is_stored_and_not_what_a_softmax_sees():
    weight, hidden = checkpoint()
    before = measure_checkpoint(0, 1.0, weight.double(), hidden)
    after = measure_checkpoint(0, 1.0, weight.double() + 5, hidden)
    assert after.kl_sigma2 > before.kl_sigma2 + 0.5
    assert after.mean_row_share > 0.99
    for name in ("kl_sigma2", "kl_sigma", "second_value", "stable_rank"):
        centred = f"{name}_centred"
        assert getattr(after, centred) == pytest.approx(getattr(before, centred), rel=1e-8)


def test_states_in_one_direction_are_anisotropic_until_centred():
    weight, hidden = checkpoint()
    found = measure_checkpoint(0, 1.0, weight, hidden + 100)
    assert found.anisotropy > 0.99
    assert abs(found.anisotropy_centred) < 0.1


def test_batches_of_states_and_their_rows_are_measured_alike():
    weight, hidden = checkpoint()
    assert measure_checkpoint(0, 1.0, weight, hidden.view(4, 20, 12)) == measure_checkpoint(
        0, 1.0, weight, hidden
    )


def test_a_checkpoint_is_plain_numbers_even_from_a_parameter():
    weight, hidden = checkpoint()
    found = measure_checkpoint(0, 1.0, torch.nn.Parameter(weight), hidden)
    json_text(asdict(found))
    assert found == replace(found)


@pytest.mark.parametrize(
    ("weight", "hidden", "said"),
    [
        (torch.ones(5, 4), torch.ones(6, 3), r"\(5, 4\) and \(6, 3\)"),
        (torch.ones(5, 4), torch.ones(1, 4), "two or more states"),
        (torch.full((5, 4), torch.nan), torch.ones(6, 4), "not finite at step 3"),
        (torch.ones(5, 4), torch.full((6, 4), torch.inf), "not finite at step 3"),
    ],
)
def test_what_cannot_be_measured_is_refused(weight, hidden, said):
    with pytest.raises(WideneckError, match=said):
        measure_checkpoint(3, 1.0, weight, hidden)
