"""From a name to a head."""

import pytest
import torch

import wideneck as wn
from wideneck import heads
from wideneck.errors import WideneckError


def test_every_name_builds_a_head_of_the_asked_shape_and_dtype():
    for name in heads.names():
        head = heads.build(
            name, hidden_size=65, vocab_size=5, bias=True, dtype=torch.float64, device="meta"
        )
        assert head.weight.shape == (5, 64 if name == "low_rank" else 65)
        assert head.bias is not None
        assert head.bias.shape == (5,)
        assert head.weight.dtype == torch.float64
        assert {p.device.type for p in head.parameters()} == {"meta"}


def test_a_name_a_table_and_a_config_build_the_same():
    log_probs = []
    for head in (
        "moss",
        {"name": "moss", "num_components": 3},
        wn.Mixture(activation=wn.Sigsoftmax(), num_components=3),
    ):
        torch.manual_seed(0)
        built = heads.build(head, hidden_size=3, vocab_size=5, num_components=3)
        log_probs.append(built(torch.ones(3)))
    assert (log_probs[0] == log_probs[1]).all()
    assert (log_probs[0] == log_probs[2]).all()


@pytest.mark.parametrize("size", [0, -1, 2.0, True, "3"])
def test_a_bad_size_is_one_sentence(size):
    with pytest.raises(WideneckError, match="A head needs hidden_size >= 1, got"):
        heads.build("softmax", hidden_size=size, vocab_size=5)
    with pytest.raises(WideneckError, match="A head needs vocab_size >= 1, got"):
        heads.build("softmax", hidden_size=5, vocab_size=size)


def test_a_head_holds_numbers_where_its_config_came_with_tensors():
    slope = torch.tensor(3.0, requires_grad=True)
    head = heads.build(wn.GSS(slope=slope), hidden_size=3, vocab_size=5)
    assert head.config == wn.GSS(slope=3.0)
    with pytest.raises(WideneckError, match="a head learns its own"):
        heads.build(wn.PLIF(num_knots=2, values=torch.zeros(2)), hidden_size=3, vocab_size=5)
