"""Which parameters decay, at which rate, and what Muon sees of a mixture."""

import pytest
import torch
import transformers as tr
from attachable import attached, token_ids
from torch import nn
from trainer_arguments import sgd

import wideneck as wn
from tiny import tiny_model
from wideneck import heads
from wideneck.attached.parameter_groups import LEARNED_RATE
from wideneck.attention.config import NORMALIZERS
from wideneck.attention.learned import build
from wideneck.config import HEADS
from wideneck.errors import WideneckError

MATRICES = ("weight", "bias", "down.", "projections.")
"""Beginnings of a head's parameters that are no learned numbers."""


def with_everything():
    """A model that learns a shift, a temperature, a bias, and an alpha a head."""
    model = attached("llama-tied", "moss", activation={"name": "sigsoftmax", "learned": True})
    return wn.attach_memory(wn.attention.use(model, "entmax", alpha=1.5, learned=True))


def groups_of(model, groups):
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: group for group in groups for p in group["params"]}


LEARNED = {
    "lm_head.activation.shift",
    "cache_memory.log_temperature",
    "cache_memory.bias",
    "model.layers.0.self_attn.normalizer.raw_alpha",
}


def test_learned_numbers_do_not_decay_and_have_their_own_rate():
    model = with_everything()
    found = groups_of(model, wn.parameter_groups(model, weight_decay=0.1, learned_rate=0.03))
    assert found.keys() == dict(model.named_parameters()).keys()
    assert {n for n, g in found.items() if g["name"] == "learned"} == LEARNED
    assert {(g["weight_decay"], g["lr"]) for g in found.values() if "lr" in g} == {(0.0, 0.03)}
    for name, group in found.items():
        if name not in LEARNED:
            is_vector = model.get_parameter(name).ndim == 1
            assert group["weight_decay"] == (0.0 if is_vector else 0.1), name


@pytest.mark.parametrize("name", HEADS)
def test_what_every_head_learns_beside_matrices_is_a_learned_number(name):
    learns = hasattr(HEADS[name], "learned")
    head = heads.build(
        name,
        hidden_size=8,
        vocab_size=9,
        bias=True,
        **({"learned": True} if learns else {}),
        **({"rank": 4} if name == "low_rank" else {}),
    )
    found = groups_of(head, wn.parameter_groups(head))
    expected = {n for n, _ in head.named_parameters() if not n.startswith(MATRICES)}
    assert {n for n, group in found.items() if group["name"] == "learned"} == expected


@pytest.mark.parametrize("name", NORMALIZERS)
def test_nothing_that_a_normalizer_learns_decays(name):
    module = build(name, num_heads=2, hidden_size=4)
    groups = wn.parameter_groups(module, weight_decay=0.1)
    assert sum(len(group["params"]) for group in groups) == len(list(module.parameters()))
    assert all(group["weight_decay"] == 0 for group in groups)
    # What asentmax multiplies by the hidden state is a matrix, at the rate of matrices.
    assert all(("lr" in g) == (p.ndim == 1) for g in groups for p in g["params"])


def test_wrapped_and_frozen_parameters():
    model = nn.ModuleDict({"module": with_everything()})
    frozen = model["module"].get_output_embeddings().weight.requires_grad_(False)
    groups = wn.parameter_groups(model)
    assert all(p is not frozen for group in groups for p in group["params"])
    found = groups_of(model, groups)
    assert {n for n, g in found.items() if g["name"] == "learned"} == {
        f"module.{n}" for n in LEARNED
    }


@pytest.mark.parametrize("optim", ["adamw_torch", "sgd"])
def test_the_trainer_does_it_by_itself(tmp_path, optim):
    model = with_everything()
    arguments = sgd(tmp_path, 1, 1, 1, learning_rate=0.1, weight_decay=0.5)
    arguments.optim = optim
    trainer = tr.Trainer(model, arguments)
    assert not LEARNED & set(trainer.get_decay_parameter_names(model))
    found = groups_of(model, trainer.create_optimizer().param_groups)
    assert found.keys() == dict(model.named_parameters()).keys()
    for name, group in found.items():
        rate, decay = group["lr"], group["weight_decay"]
        assert rate == (LEARNED_RATE if name in LEARNED else 0.1), name
        plain = name in LEARNED or "norm" in name
        assert decay == (0.0 if plain else 0.5), name


def test_the_trainer_treats_a_plain_model_and_given_optimizers_as_ever(tmp_path):
    model = tiny_model("llama")
    trainer = tr.Trainer(model, sgd(tmp_path, 1, 1, 1, learning_rate=0.1))
    assert [g["lr"] for g in trainer.create_optimizer().param_groups] == [0.1, 0.1]
    model = with_everything()
    mine = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = tr.Trainer(model, sgd(tmp_path, 1, 1, 1, learning_rate=0.1), optimizers=(mine, None))
    trainer.create_optimizer()
    assert [len(group["params"]) for group in mine.param_groups] == [len(list(model.parameters()))]


def test_a_shift_that_starts_far_away_stays_there_under_decay(tmp_path):
    # Decay alone would take 1 - (1 - 0.1 * 0.5)^3 of it.
    model = attached("llama", "sigsoftmax", shift=55.0, learned=True)
    rows = [{"input_ids": ids, "labels": ids} for ids in token_ids(1, (3, 12))]
    arguments = sgd(tmp_path, 1, 1, 3, learning_rate=0.1, weight_decay=0.5)
    tr.Trainer(model, arguments, train_dataset=rows).train()
    assert model.lm_head.activation.shift.item() == pytest.approx(55.0, abs=1e-3)


def test_muon_sees_every_component_as_a_matrix():
    torch.manual_seed(0)
    model = attached("llama", "moss", num_components=3)
    whole = model.lm_head.projections.latent.weight
    before = whole.detach().clone()
    matrices, *others = wn.parameter_groups(model, weight_decay=0.1, muon=True)
    muon, adamw = torch.optim.Muon([matrices], lr=1.0), torch.optim.AdamW(others, lr=1e-3)
    ids = token_ids()
    model.train()
    model(input_ids=ids, labels=ids).loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    assert norm > 0
    gradient = whole.grad.clone()
    muon.step()
    adamw.step()
    for k in range(3):
        rows = slice(16 * k, 16 * (k + 1))
        alone = nn.Parameter(before[rows].clone())
        alone.grad = gradient[rows].clone()
        torch.optim.Muon([alone], lr=1.0, weight_decay=0.1).step()
        torch.testing.assert_close(whole[rows], alone, rtol=0, atol=0)
        values = torch.linalg.svdvals(whole[rows] - before[rows] * (1 - 0.1))
        assert 0.6 < values[10].item()  # of its own 16, those that the gradient has
        assert values[0].item() < 1.3
    muon.zero_grad()
    assert whole.grad is None
    adamw.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_a_component_may_be_narrower_than_the_hidden_state():
    config = {"num_components": 3, "embedding_size": 4}
    head = wn.heads.build("mos", hidden_size=6, vocab_size=11, **config)
    matrices = wn.parameter_groups(head, muon=True)[0]["params"]
    whole = head.projections.latent.weight
    assert [tuple(part.shape) for part in matrices] == [(4, 6)] * 3
    assert torch.equal(torch.cat(matrices), whole)
    matrices[1].grad = torch.ones(4, 6)  # the first of them, where the matrix has no gradient yet
    assert torch.equal(
        whole.grad, torch.tensor([0.0, 1.0, 0.0]).repeat_interleave(4)[:, None] + torch.zeros(12, 6)
    )


def test_muon_gets_hidden_matrices_only():
    model = with_everything()
    matrices, *others = wn.parameter_groups(model, muon=True)
    names = {id(p): name for name, p in model.named_parameters()}
    inside = {names[id(p)] for p in matrices["params"] if id(p) in names}
    layers = {n for n, p in model.named_parameters() if ".layers." in n and p.ndim == 2}
    assert inside == layers
    K = model.lm_head.config.num_components
    assert len(matrices["params"]) == len(layers) + K
    left = {names[id(p)] for group in others for p in group["params"]}
    assert left == names_of(model) - layers - {"lm_head.projections.latent.weight"}


def names_of(model):
    return {name for name, _ in model.named_parameters()}


def test_numbers_out_of_range_are_one_sentence():
    with pytest.raises(WideneckError, match="weight_decay >= 0, got -1"):
        wn.parameter_groups(nn.Linear(2, 2), weight_decay=-1)
    with pytest.raises(WideneckError, match="learned_rate >= 0, got 'fast'"):
        wn.parameter_groups(nn.Linear(2, 2), learned_rate="fast")
