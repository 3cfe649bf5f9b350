"""The AWD-LSTM without its dropouts: the equations, the state, the penalty."""

import pytest
import torch
from slow_awd_lstm import slow_segment
from small_models import SMALL, awd_lstm, segment

from wideneck import config as c
from wideneck.models.small import Output
from wideneck.models.small.awd_lstm import in_one_piece
from wideneck.models.small.config import AwdLstm
from wideneck.models.small.language_model import language_model

ALPHA, BETA = 2.0, 1.0
PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def test_every_segment_is_that_of_the_equations_with_all_gradients():
    model = awd_lstm(activation_regularization=ALPHA, temporal_regularization=BETA)
    leaves = {n: p.detach().clone().requires_grad_() for n, p in model.named_parameters()}
    layers = [[leaves[f"backbone.layers.{i}.{part}"] for part in PARTS] for i in range(3)]
    state = []
    slow_state = [(torch.zeros(3, H).double(), torch.zeros(3, H).double()) for H in (7, 7, 6)]

    for k, time in enumerate((5, 2, 4)):
        ids, targets = segment(time=time, seed=k)
        step = model(ids, targets, state)
        output = model.backbone(ids, state)
        nll, penalty, hidden, slow_state = slow_segment(
            layers,
            leaves["backbone.words.weight"],
            leaves["head.bias"],
            ids,
            targets,
            slow_state,
            ALPHA,
            BETA,
        )

        torch.testing.assert_close(step.nll, nll)
        torch.testing.assert_close(step.penalty, penalty)
        torch.testing.assert_close(output.hidden, hidden)
        flat = [part for pair in slow_state for part in pair]
        for got, want in zip(step.state, flat, strict=True):
            torch.testing.assert_close(got, want[None])
        grads = torch.autograd.grad(step.nll + step.penalty, list(model.parameters()))
        slow_grads = torch.autograd.grad(nll + penalty, list(leaves.values()))
        for got, want in zip(grads, slow_grads, strict=True):
            assert want.abs().sum() > 0
            torch.testing.assert_close(got, want)

        state = [part.detach() for part in step.state]
        slow_state = [(h.detach(), c.detach()) for h, c in slow_state]


def test_segments_that_carry_their_state_are_one_long_pass():
    model = awd_lstm()
    ids, targets = segment(time=9)
    whole = model(ids, targets, reduction="none")
    first = model(ids[:, :4], targets[:, :4], reduction="none")
    second = model(ids[:, 4:], targets[:, 4:], first.state, reduction="none")

    torch.testing.assert_close(torch.cat([first.nll, second.nll], 1), whole.nll)
    for got, want in zip(second.state, whole.state, strict=True):
        torch.testing.assert_close(got, want)
    # The state is attached, so the second segment's loss reaches the first.
    parameters = list(model.parameters())
    apart = torch.autograd.grad(first.nll.sum() + second.nll.sum(), parameters)
    for got, want in zip(apart, torch.autograd.grad(whole.nll.sum(), parameters), strict=True):
        torch.testing.assert_close(got, want)


def test_the_state_is_one_pair_for_each_layer():
    model = awd_lstm(num_layers=4, last_size=5, tied=False)
    step = model(*segment(batch=2))
    assert [tuple(part.shape) for part in step.state] == [
        (1, 2, H) for H in (7, 7, 7, 7, 7, 7, 5, 5)
    ]


def test_an_empty_state_is_the_start_and_so_are_zeros():
    model = awd_lstm()
    ids, targets = segment()
    want = model(ids, targets).nll
    zeros = [torch.zeros_like(part) for part in model(ids, targets).state]
    assert model(ids, targets, []).nll == want
    assert model(ids, targets, zeros).nll == want


def test_one_layer_goes_from_the_embedding_to_the_last_size():
    model = awd_lstm(num_layers=1)
    assert [tuple(p.shape) for p in model.backbone.layers[0].parameters()][:2] == [(24, 6), (24, 6)]
    assert model.backbone.hidden_size == SMALL["embedding_size"]


def test_the_penalty_reads_the_dropped_output_and_the_change_of_the_raw_one():
    backbone = awd_lstm(activation_regularization=2.0, temporal_regularization=3.0).backbone
    hidden, raw = torch.tensor([[[1.0], [0.0], [2.0]]]), torch.tensor([[[1.0], [4.0], [5.0]]])
    assert backbone.penalty(Output(hidden, raw, [])) == 2 * 5 / 3 + 3 * (9 + 1) / 2
    low = backbone.penalty(Output(hidden.bfloat16(), raw.bfloat16(), []))
    assert low.dtype == torch.float32


def test_a_single_token_has_no_change_to_penalize():
    model = awd_lstm(activation_regularization=0.0)
    assert model(*segment(time=1)).penalty == 0


def test_embedding_and_output_matrix_start_as_in_the_paper():
    for tied in (True, False):
        model = language_model(AwdLstm(embedding_size=64, tied=tied), c.Softmax(), vocab_size=200)
        for weight in (model.backbone.embedding.weight, model.head.weight):
            assert 0.099 < weight.abs().max() <= 0.1
            assert abs(weight.std().item() - 0.1 / 3**0.5) < 1e-3
        assert (model.head.bias == 0).all()
        first = model.backbone.layers[0].weight_ih
        assert 0.99 < first.abs().max() * 1150**0.5 <= 1.0001


@pytest.mark.parametrize("mode", [True, False])
def test_gradients_are_there_in_both_modes(mode):
    model = awd_lstm().train(mode)
    model(*segment()).nll.backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


def test_float32_is_as_close_as_its_rounding():
    model = awd_lstm()
    ids, targets = segment()
    want = model(ids, targets).nll
    torch.testing.assert_close(model.float()(ids, targets).nll.double(), want, rtol=1e-5, atol=1e-5)


def test_weights_in_one_piece_of_memory_are_the_weights_with_their_gradients():
    weights = list(awd_lstm().backbone.layers[0].parameters())
    pieces = in_one_piece(weights)
    place = pieces[0].data_ptr()
    for piece, weight in zip(pieces, weights, strict=True):
        assert piece.equal(weight)
        assert piece.data_ptr() == place
        place += piece.numel() * piece.element_size()
    grads = torch.autograd.grad(sum(piece.square().sum() for piece in pieces), weights)
    for grad, weight in zip(grads, weights, strict=True):
        torch.testing.assert_close(grad, 2 * weight)
