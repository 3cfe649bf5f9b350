"""A real, pretrained model goes on as it did: the default one."""

import copy

import pytest
import torch

import wideneck as wn
from wideneck.data import default_text
from wideneck.models import load_language_model
from wideneck.models.source import default_model

MIXTURES = {name: {"num_components": 2} for name in ("moc", "mos", "moss")}
HEADS = {
    **{name: {} for name in ("softmax", "scaled_softmax", "sigsoftmax", "gss", "sigmoid", "plif")},
    **MIXTURES,
}


@pytest.fixture(scope="module")
def language_model():
    # Two threads on a busy machine wait for each other at every layer.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load_language_model(default_model())
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def prompt(language_model):
    text = default_text().documents[0]
    return torch.tensor([language_model.tokenizer(text).input_ids[:64]])


@torch.no_grad()
def answers(model, prompt):
    options = {"attention_mask": torch.ones_like(prompt), "do_sample": False}
    greedy = model.generate(prompt, max_new_tokens=8, **options)
    beams = model.generate(prompt, max_new_tokens=5, num_beams=2, **options)
    return model(input_ids=prompt).logits.log_softmax(-1), greedy, beams


@pytest.fixture(scope="module")
def expected(language_model, prompt):
    return answers(language_model.model, prompt)


@pytest.mark.parametrize("head", HEADS)
def test_text_and_beams_go_on_as_without_the_head(head, language_model, prompt, expected):
    model = wn.attach(copy.deepcopy(language_model.model), head, **HEADS[head])
    assert model.lm_head.weight is model.get_input_embeddings().weight
    log_probs, greedy, beams = answers(model, prompt)
    assert (log_probs - expected[0]).abs().max() < 1e-4  # 0.01 is promised
    assert torch.equal(greedy, expected[1])
    assert torch.equal(beams, expected[2])


@pytest.mark.parametrize("head", ["plif", "moss"])
def test_it_is_saved_and_loaded_bit_for_bit(head, language_model, prompt, tmp_path):
    """Also what transformers refuses to save by itself: the weights come from a GGUF file."""
    model = wn.attach(copy.deepcopy(language_model.model), head, **HEADS[head])
    model.save_pretrained(tmp_path)
    for before, after in zip(
        answers(model, prompt), answers(wn.load(tmp_path), prompt), strict=True
    ):
        assert torch.equal(before, after)
