"""The last layers, run from what those below have made of the text."""

import pytest
import torch

from lab.tasks.small_continuation import gpt2, llama
from tiny import V
from wideneck.errors import WideneckError
from wideneck.lab.tasks.upper_layers import first_trained, running_from, states_before


@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_the_upper_layers_go_on_as_the_whole_model(first):
    model, ids = llama().eval(), torch.randint(V, (5, 12))
    states = states_before(model, first, ids)
    whole = model(input_ids=ids, output_hidden_states=True)
    if first < 3:  # the last of them has been through the norm
        torch.testing.assert_close(states, whole.hidden_states[first])
    with running_from(model, first, states):
        found = model(input_ids=ids).logits
    torch.testing.assert_close(found, whole.logits)
    assert len(model.model.layers) == 3


def test_other_states_give_another_prediction():
    model, ids = llama().eval(), torch.randint(V, (1, 12))
    states = states_before(model, 1, ids)
    with running_from(model, 1, states + 1):
        assert (model(input_ids=ids).logits - model(input_ids=ids).logits).abs().max() == 0
        changed = model(input_ids=ids).logits
    assert not torch.allclose(changed, model(input_ids=ids).logits)


def test_only_the_upper_layers_get_a_gradient():
    model, ids = llama(), torch.randint(V, (2, 12))
    model.requires_grad_(False)
    model.model.layers[2].requires_grad_(True)
    with running_from(model, 2, states_before(model, 2, ids)):
        model(input_ids=ids, labels=ids).loss.backward()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == {n for n, _ in model.named_parameters() if "layers.2." in n}


def test_without_states_the_whole_model_runs():
    model = llama()
    with running_from(model, None, None):
        assert len(model.model.layers) == 3


def test_a_model_whose_upper_layers_do_not_go_on_from_the_states_is_refused(monkeypatch):
    model = llama().eval()
    layer = model.model.layers[1]
    whole = layer.forward
    monkeypatch.setattr(
        layer,
        "forward",
        # A layer that does something else where it is the first of those that run.
        lambda hidden, **options: whole(hidden * len(model.model.layers), **options),
    )
    with pytest.raises(WideneckError, match="predicts something else than in one"):
        states_before(model, 1, torch.randint(V, (1, 12)))


def test_the_last_layers_are_counted_from_above():
    assert first_trained(llama(), 1) == 2
    with pytest.raises(WideneckError, match="has 3 layers, and the last 4"):
        first_trained(llama(), 4)
    with pytest.raises(WideneckError, match="GPT2LMHeadModel is not built like Llama"):
        first_trained(gpt2(), 1)
