"""A cheaper copy of a model drafts for it in assisted generation of transformers."""

import copy

import pytest
import torch
from attachable import attached, fitting_text

import wideneck as wn
from tiny import tiny_model


def large_logits():
    model = tiny_model("llama-tied")
    for parameter in model.parameters():
        parameter.data.mul_(3)
    return model


@pytest.mark.parametrize("rank", [3, 12])
@torch.no_grad()
def test_a_low_rank_copy_drafts_the_full_models_tokens(rank):
    model = large_logits()
    drafter = wn.attach(copy.deepcopy(model), "low_rank", rank=rank, **fitting_text())
    drafter.generation_config.num_assistant_tokens = 4
    options = {"max_new_tokens": 24, "do_sample": False, "eos_token_id": None}
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        prompt = torch.randint(3, 96, (1, 6), generator=generator)
        inputs = {"input_ids": prompt, "attention_mask": torch.ones_like(prompt)}
        alone = model.generate(**inputs, **options)
        assert torch.equal(model.generate(**inputs, assistant_model=drafter, **options), alone)


@torch.no_grad()
def test_a_model_with_a_head_has_a_drafter_too():
    model, plain = attached("llama", "moss"), tiny_model("llama")
    prompt = torch.arange(3, 9)[None]
    inputs = {"input_ids": prompt, "attention_mask": torch.ones_like(prompt)}
    options = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None}
    alone = model.generate(**inputs, **options)
    assert torch.equal(model.generate(**inputs, assistant_model=plain, **options), alone)
