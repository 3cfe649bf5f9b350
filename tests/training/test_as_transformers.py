"""What a run has trained, loaded as a model of transformers."""

import pytest
import torch
from training_runs import AWD, GPT2, STATES, changed, frozen_model, text, trained

import wideneck as wn
from checkpoints import saved
from tiny import tiny_model
from wideneck.errors import WideneckError
from wideneck.training.saved_run import load_run

SIZES = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
ONCE = {"epochs": 0.5}


@pytest.fixture
def gpt2(tmp_path):
    return changed(GPT2, data={"text": text(tmp_path)}, training=ONCE)


@pytest.fixture
def states(tmp_path):
    model = {"model": frozen_model(tmp_path / "gpt2")}
    return changed(STATES, data={"text": text(tmp_path)}, model=model)


def assert_predicts_as(run, model):
    ids = torch.randint(run.about.vocab_size, (2, 16))
    expected, _ = run.model.log_probs(ids)
    torch.testing.assert_close(model(ids).logits, expected, rtol=1e-5, atol=1e-5)
    return ids


@pytest.mark.parametrize("head", [{"name": "sigsoftmax", "learned": True}, "mos", "plif"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_trained_transformer_predicts_as_its_run(head, tied, gpt2, tmp_path):
    head = {"name": head} if isinstance(head, str) else head
    trained(changed(gpt2, model={"tied": tied}) | {"head": head}, tmp_path / "run")
    run = load_run(tmp_path / "run")
    model = wn.load(tmp_path / "run")
    assert not model.training
    ids = assert_predicts_as(run, model)
    again = wn.load(saved(model, tmp_path / "saved"))
    assert torch.equal(again(ids).logits, model(ids).logits)
    # No word of the text ends a generation.
    assert model.generate(ids[:1, :4], max_new_tokens=9, do_sample=False).shape == (1, 13)


def of(architecture, **options):
    return {
        "name": "transformer",
        "architecture": architecture,
        "context": 16,
        "options": SIZES | options,
    }


@pytest.mark.parametrize(
    "model",
    [
        of("llama"),
        of("phi"),  # its output layer has a bias, the run's head has none
        of("gemma2", head_dim=8, num_key_value_heads=1),  # it caps its logits, the run does not
        of("granite", logits_scaling=8.0),
    ],
    ids=lambda model: model["architecture"],
)
def test_other_architectures(model, gpt2, tmp_path):
    trained(gpt2 | {"model": model}, tmp_path / "run")
    model = wn.load(tmp_path / "run")
    ids = assert_predicts_as(load_run(tmp_path / "run"), model)
    assert torch.equal(wn.load(saved(model, tmp_path / "saved"))(ids).logits, model(ids).logits)


def test_an_architecture_that_does_more_than_its_base_model_is_refused(gpt2, tmp_path):
    trained(gpt2 | {"model": of("bert", is_decoder=True)}, tmp_path / "run")
    with pytest.raises(WideneckError, match="BertLMHeadModel does not predict what the run in"):
        wn.load(tmp_path / "run")


LOW = {"name": "low_rank", "rank": 4}


@pytest.mark.parametrize("head", ["softmax", "moss", {"name": "mos", "projection": "tanh"}, LOW])
def test_a_head_on_states_stands_in_its_model(head, states, tmp_path):
    head = {"name": head} if isinstance(head, str) else head
    start = {"start": "whitened"} if head == LOW else {}
    result = trained(changed(states, model=start) | {"head": head}, tmp_path / "run")
    model = wn.load(tmp_path / "run")
    assert model.get_input_embeddings().weight is not model.get_output_embeddings().weight
    plain = tiny_model("gpt2")
    ids = torch.randint(96, (2, 16))
    hidden = plain.transformer(ids).last_hidden_state
    head = model.get_output_embeddings()
    assert torch.equal(model.transformer(ids).last_hidden_state, hidden)
    torch.testing.assert_close(model(ids).logits, head.log_probs(hidden))
    assert wn.load(saved(model, tmp_path / "saved"))(ids).logits.equal(model(ids).logits)
    before = plain(ids).logits.log_softmax(-1)
    assert not torch.allclose(model(ids).logits, before, atol=1e-3)  # it has been trained
    assert result["valid_loss"] == min(result["valid_losses"]) < result["valid_losses"][0]


def test_what_has_no_place_in_a_model_is_refused(gpt2, states, tmp_path):
    trained(changed(gpt2, model={"bias": True}), tmp_path / "bias")
    with pytest.raises(WideneckError, match="has a bias, for which a GPT2LMHeadModel"):
        wn.load(tmp_path / "bias")
    trained(changed(AWD, data=gpt2["data"], training=ONCE), tmp_path / "lstm")
    with pytest.raises(WideneckError, match="AWD-LSTM, which is no model of transformers"):
        wn.load(tmp_path / "lstm")
    with pytest.raises(WideneckError, match="loaded in float32 on the CPU, got dtype"):
        wn.load(tmp_path / "lstm", dtype=torch.bfloat16)


def test_a_frozen_model_that_has_changed_is_refused(states, tmp_path):
    trained(states, tmp_path / "run")
    model = tiny_model("gpt2")
    with torch.no_grad():
        model.get_output_embeddings().weight.add_(1)
    saved(model, tmp_path / "gpt2")
    with pytest.raises(WideneckError, match="another output matrix than it has now"):
        wn.load(tmp_path / "run")
