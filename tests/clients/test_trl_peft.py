"""TRL trains an adapter of PEFT around a model with a head: the loss is the head's still."""

import copy
import warnings

import pytest
import torch

from clients.test_trl_preference import pairs
from clients.test_trl_preference import trainer_of as preferring
from clients.test_trl_sft import head_nll, trainer_of
from clients.trl_small import stepped, with_head, with_memory

peft = pytest.importorskip("peft")


def adapted(model, **options):
    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", **options)
    wrapped = peft.get_peft_model(model, config)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:  # so that the adapter matters
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    return wrapped


def test_sft_of_an_adapter_is_that_of_the_heads_loss(shows, tmp_path):
    model = adapted(with_head("moss"))
    twin = copy.deepcopy(model)
    found = stepped(trainer_of(model, tmp_path))
    loss = head_nll(twin.get_base_model())
    parameters = {name: p for name, p in twin.named_parameters() if p.requires_grad}
    wanted = torch.autograd.grad(loss, [*parameters.values()])
    for name, gradient in zip(parameters, wanted, strict=True):
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6, msg=name)
    assert any("projections" in name for name in parameters)
    shows("SFTTrainer, an adapter of PEFT", "right")


@pytest.mark.parametrize("make", [lambda: with_head("moss"), with_memory], ids=["head", "memory"])
def test_dpo_of_an_adapter_needs_no_reference_model(shows, tmp_path, make):
    model = adapted(make())
    trainer = preferring("DPO", model, tmp_path, pairs(), None, 2)
    assert trainer.ref_model is None
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.train()
    moved = [n for n, p in model.named_parameters() if not torch.equal(p, before[n])]
    assert moved == [name for name, p in model.named_parameters() if p.requires_grad]
    shows("DPOTrainer, an adapter of PEFT", "right")
