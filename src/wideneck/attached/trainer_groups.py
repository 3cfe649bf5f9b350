"""The Trainer of transformers leaves learned numbers undecayed and gives them their own rate.

It tells what decays by names ("bias", "norm") and by nn.LayerNorm, asks no model, and has no list
to extend.  So `registration` has two of its methods followed by a step, which acts on models with
learned numbers of wideneck only and changes no name in any state dict.
"""

import functools
from typing import Any

import torch

from wideneck.attached.parameter_groups import LEARNED_RATE, learned_numbers, of_own_rate

_DONE = "_wideneck_groups"


def teach(trainer: Any) -> None:
    """Have the module `transformers.trainer` do it, once."""
    cls = trainer.Trainer
    if getattr(cls, _DONE, False):
        return
    setattr(cls, _DONE, True)
    names, create = cls.get_decay_parameter_names, cls.create_optimizer

    @functools.wraps(names)
    def get_decay_parameter_names(self: Any, model: Any) -> list[str]:
        learned = {id(p) for p in learned_numbers(model)}
        named = model.named_parameters(remove_duplicate=False)
        out = {name for name, p in named if id(p) in learned}
        return [name for name in names(self, model) if name not in out]

    @functools.wraps(create)
    def create_optimizer(self: Any, model: Any = None) -> Any:
        given = self.optimizer is not None  # the user's own, with groups of the user's own
        optimizer = create(self) if model is None else create(self, model)
        if not given and isinstance(optimizer, torch.optim.Optimizer):
            put_apart(optimizer, self.model if model is None else model)
        return optimizer

    cls.get_decay_parameter_names = get_decay_parameter_names
    cls.create_optimizer = create_optimizer


def put_apart(optimizer: torch.optim.Optimizer, model: Any) -> None:
    """Move the learned numbers of a model into groups with a rate of their own.

    Args:
        optimizer: new, without state or schedule.
        model: whose parameters it has.
    """
    learned = {id(p) for p in learned_numbers(model) if of_own_rate(p)}
    for group in list(optimizer.param_groups):
        apart = [p for p in group["params"] if id(p) in learned]
        if not apart or not group.get("lr"):  # a rate of 0 stays 0
            continue
        group["params"] = [p for p in group["params"] if id(p) not in learned]
        own = {**group, "params": apart, "lr": LEARNED_RATE, "weight_decay": 0.0, "name": "learned"}
        optimizer.add_param_group(own)
    optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]
