"""The dropouts of the AWD-LSTM: each acts, where and as it should, and is off when asked."""

import pytest
import torch
from small_models import NO_DROPOUT, V, awd_lstm, segment

from wideneck import config as c

MIXTURE = c.Mixture(num_components=2, dropout=0.5)


@pytest.mark.parametrize("name", NO_DROPOUT)
def test_two_training_passes_differ_where_only_this_dropout_acts(name):
    ids, targets = segment()
    model = awd_lstm(**{name: 0.4})
    assert model(ids, targets).nll != model(ids, targets).nll
    assert model.eval()(ids, targets).nll == awd_lstm()(ids, targets).nll


def test_without_any_rate_a_training_pass_is_that_of_evaluation():
    ids, targets = segment()
    model = awd_lstm()
    assert model.training
    first, second = model(ids, targets), model(ids, targets)
    assert first.nll == second.nll == model.eval()(ids, targets).nll


def test_masks_come_from_the_default_generator_alone():
    ids, targets = segment()
    model = awd_lstm(head=MIXTURE, **dict.fromkeys(NO_DROPOUT, 0.3))
    losses = []
    for _ in range(2):
        torch.manual_seed(5)
        losses.append(model(ids, targets).nll)
    assert losses[0] == losses[1]
    before = torch.get_rng_state()
    model.eval()(ids, targets)
    assert torch.get_rng_state().equal(before)


def entering(model, ids):
    """What each layer is given and makes in one training pass."""
    seen = []
    hooks = [
        layer.register_forward_hook(lambda _, args, result: seen.append((args[0], result[0])))
        for layer in model.backbone.layers
    ]
    output = model.backbone(ids)
    for hook in hooks:
        hook.remove()
    return seen, output


def masks(name, ids):
    """Kept over whole, element by element, of the one dropout with a rate of 0.4."""
    model = awd_lstm(embedding_size=16, hidden_size=20, **{name: 0.4})
    seen, output = entering(model, ids)
    if name in ("input_dropout", "embedding_dropout"):
        return [seen[0][0] / model.backbone.embedding(ids)]
    if name == "hidden_dropout":
        return [seen[1][0] / seen[0][1], seen[2][0] / seen[1][1]]
    return [output.hidden / output.raw]


@pytest.mark.parametrize("name", ["input_dropout", "hidden_dropout", "output_dropout"])
def test_a_locked_mask_is_the_same_at_all_times_of_a_sequence(name):
    ids, _ = segment(batch=40, time=6)
    for mask in masks(name, ids):
        torch.testing.assert_close(mask, mask[:, :1].expand_as(mask))
        assert (mask[0] != mask[1]).any()
        assert ((mask == 0) | ((mask - 1 / 0.6).abs() < 1e-9)).all()
        share = (mask[:, 0] == 0).double().mean()
        assert abs(share - 0.4) < 5 * (0.24 / mask[:, 0].numel()) ** 0.5


def test_every_place_has_its_own_mask():
    ids, _ = segment(batch=4)
    first, second = masks("hidden_dropout", ids)
    assert (first != second).any()


def test_embedding_dropout_takes_whole_words_everywhere_in_the_batch():
    ids, _ = segment(batch=20, time=8)
    (mask,) = masks("embedding_dropout", ids)
    torch.testing.assert_close(mask, mask[..., :1].expand_as(mask))
    factors = [mask[ids == word].unique() for word in range(V)]
    assert all(len(factor.round(decimals=9).unique()) == 1 for factor in factors)
    values = {round(factor[0].item(), 9) for factor in factors}
    assert values == {0.0, round(1 / 0.6, 9)}


def test_embedding_dropout_leaves_the_output_matrix_whole():
    ids, _ = segment()
    model = awd_lstm(embedding_dropout=0.4)
    output = model.backbone(ids)
    want = (output.hidden @ model.backbone.words.weight.T + model.head.bias).log_softmax(-1)
    torch.testing.assert_close(model.head.log_probs(output.hidden), want)


def test_weight_dropout_takes_its_share_of_recurrent_weights_and_their_gradients(monkeypatch):
    model = awd_lstm(hidden_size=30, weight_dropout=0.3)
    whole = {name: p.detach().clone() for name, p in model.named_parameters()}
    used, lstm = [], torch.lstm
    monkeypatch.setattr(torch, "lstm", lambda *a, **k: used.append(a[2]) or lstm(*a, **k))
    first = model(*segment())
    first.nll.backward()
    model(*segment())

    assert len(used) == 6
    for layer, weights, later in zip(model.backbone.layers, used[:3], used[3:], strict=True):
        weight_ih, dropped, bias_ih, bias_hh = weights
        for got, want in (
            (weight_ih, layer.weight_ih),
            (bias_ih, layer.bias_ih),
            (bias_hh, layer.bias_hh),
        ):
            assert got is want
        kept = dropped != 0
        torch.testing.assert_close(dropped[kept], layer.weight_hh[kept] / 0.7)
        share = (~kept).double().mean()
        assert abs(share - 0.3) < 5 * (0.21 / kept.numel()) ** 0.5
        assert ((layer.weight_hh.grad != 0) == kept).all()
        assert (later[1] != dropped).any(), "every segment has its own mask"
    for name, parameter in model.named_parameters():
        assert parameter.equal(whole[name])
    assert set(model.state_dict()) - set(whole) == {"head.weight"}, "the tied one, twice"


@pytest.mark.parametrize("head", [c.Softmax(), MIXTURE])
def test_without_dropout_is_evaluation_with_gradients(head):
    ids, targets = segment()
    model = awd_lstm(head=head, **dict.fromkeys(NO_DROPOUT, 0.4))
    want = model.eval()(ids, targets).nll
    model.train()
    with model.without_dropout():
        first, second = model(ids, targets).nll, model(ids, targets).nll
        first.backward()
    assert first == second == want
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())
    assert all(module.training for module in model.modules())
    assert model(ids, targets).nll != want
