"""Decoders of transformers below a head: their states, their loss, and what is refused."""

import pytest
import torch
import transformers as tr
from small_models import DECODERS, LLAMA, V, segment, transformer

from wideneck import WideneckError
from wideneck import config as c
from wideneck.models.small.config import Transformer
from wideneck.models.small.language_model import language_model


def twin(model):
    """The causal language model of transformers with the same weights."""
    full = tr.AutoModelForCausalLM.from_config(model.backbone.model.config)
    full.base_model.load_state_dict(model.backbone.model.state_dict())
    with torch.no_grad():
        full.get_output_embeddings().weight.copy_(model.head.weight)
    return full.eval()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", DECODERS)
def test_states_and_loss_are_those_of_transformers(architecture, tied):
    model = transformer(architecture, tied=tied)
    ids, _ = segment(time=7)
    full = twin(model)
    seen = []
    full.get_output_embeddings().register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        want = full(input_ids=ids, labels=ids).loss
        step = model.eval()(ids[:, :-1], ids[:, 1:])
        output = model.backbone(ids)
    torch.testing.assert_close(output.hidden, seen[0])
    torch.testing.assert_close(step.nll, want)
    assert output.hidden is output.raw
    assert output.state == step.state == []
    assert step.penalty == 0


@pytest.mark.parametrize("architecture", DECODERS)
def test_a_new_model_starts_as_transformers_starts_it(architecture):
    model = transformer(architecture)
    torch.manual_seed(0)
    again = tr.AutoModel.from_config(model.backbone.model.config)
    assert all(
        a.equal(b)
        for a, b in zip(again.parameters(), model.backbone.model.parameters(), strict=True)
    )
    assert model.head.weight is model.backbone.embedding.weight


@pytest.mark.parametrize("architecture", DECODERS)
def test_every_word_learns_whatever_pads_elsewhere(architecture):
    model = transformer(architecture, tied=False)
    ids = torch.arange(8)[None]
    model(ids, ids).nll.backward()
    assert (model.backbone.embedding.weight.grad[:8].abs().sum(1) > 0).all()


def test_the_context_is_the_number_of_positions():
    model = transformer(context=5)
    assert model.backbone.context == model.backbone.model.config.n_positions == 5
    assert model.backbone.model.wpe.num_embeddings == 5
    model(*segment(time=5))
    with pytest.raises(WideneckError, match="windows of at most 5 tokens, got 6"):
        model(*segment(time=6))


def test_the_width_is_that_of_the_states():
    assert transformer("opt").backbone.hidden_size == 8
    assert transformer("llama").backbone.hidden_size == 16


@pytest.mark.parametrize("head", [c.Softmax(), c.Mixture(num_components=2, dropout=0.5)])
@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("gpt2", {"resid_pdrop": 0.5, "embd_pdrop": 0.0, "attn_pdrop": 0.0}),
        ("gpt2", {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.5}),
        ("llama", {"attention_dropout": 0.5}),
        ("opt", {"layerdrop": 0.5}),
    ],
)
def test_without_dropout_is_evaluation_with_gradients(architecture, options, head):
    model = transformer(architecture, head, **options)
    ids, targets = segment()
    passes = torch.stack([model(ids, targets).nll.detach() for _ in range(8)])
    assert len(passes.unique()) > 1, "dropout acts"
    with model.without_dropout():
        first, second = model(ids, targets).nll, model(ids, targets).nll
        first.backward()
    assert first == second == model.eval()(ids, targets).nll
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("head", [c.Sigsoftmax(), c.Mixture(num_components=2), c.MoC()])
def test_other_heads_are_tied_as_well(head):
    model = transformer(head=head)
    assert model.head.weight is model.backbone.embedding.weight
    model(*segment()).nll.backward()
    assert all(p.grad is not None for p in model.parameters())


def assert_loss_of_the_log_probs(model, **size):
    """Of a causal model: a last token that is changed moves no earlier prediction."""
    ids, targets = segment(**size)
    model.eval()
    log_probs, _ = model.log_probs(ids)
    want = -log_probs.gather(-1, targets[..., None]).mean()
    torch.testing.assert_close(model(ids, targets).nll.double(), want.double())
    other = ids.clone()
    other[:, -1] = (ids[:, -1] + 1) % V
    changed, _ = model.log_probs(other)
    torch.testing.assert_close(changed[:, :-1], log_probs[:, :-1])
    assert not torch.allclose(changed[:, -1], log_probs[:, -1])


def test_a_decoder_that_reads_no_positions_is_built_as_it_is():
    config = Transformer(
        architecture="bloom", options={"hidden_size": 16, "n_layer": 1, "n_head": 2}, context=6
    )
    assert_loss_of_the_log_probs(language_model(config, c.Softmax(), vocab_size=V), time=6)


@pytest.mark.parametrize(
    ("architecture", "options", "message"),
    [
        ("gpt3", {}, "no causal language model of the type 'gpt3'. Did you mean"),
        ("vit", {}, "no causal language model of the type 'vit'"),
        ("gpt2", {"n_embed": 8}, "No option of gpt2 is called 'n_embed'. Did you mean 'n_embd'?"),
        ("gpt2", {"vocab_size": 8}, "option vocab_size of gpt2 follows from the vocabulary"),
        ("gpt2", {"n_positions": 8}, "option n_positions of gpt2 follows from"),
        ("llama", {"max_position_embeddings": 8}, "option max_position_embeddings of llama"),
        ("gpt2", {"tie_word_embeddings": True}, "option tie_word_embeddings of gpt2 follows"),
        ("gpt2", {"dtype": "float16"}, "No option of gpt2 is called 'dtype'"),
        ("gpt2", {"n_embd": 9, "n_head": 2}, "transformers cannot build a gpt2 .* divisible"),
        ("gpt2", {"n_embd": "wide"}, "transformers cannot build a gpt2 .* expected int, got str"),
        ("gemma3", {}, "more than a language model; give the type of its text part, 'gemma3_text'"),
        ("bert", LLAMA, "bert with these options sees the tokens that it is to predict"),
    ],
)
def test_what_makes_no_causal_language_model_is_refused(architecture, options, message):
    config = Transformer(architecture=architecture, options=options)
    with pytest.raises(WideneckError, match=message):
        language_model(config, c.Softmax(), vocab_size=V)


def test_a_bert_that_is_told_to_be_a_decoder_is_one():
    config = Transformer(architecture="bert", options={**LLAMA, "is_decoder": True})
    assert_loss_of_the_log_probs(language_model(config, c.Softmax(), vocab_size=V))
