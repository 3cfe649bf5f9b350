"""Forwards as other people's trainers and kernels put them on a model."""

import functools
from types import FunctionType, MethodType

import torch.nn.functional as F


def loss_of(logits, labels):
    return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())


def from_weight(self, input_ids=None, labels=None, **_):
    """As Liger's instance patch, verl's fused kernels and TRL from 1.7 on."""
    hidden = self.model(input_ids).last_hidden_state
    return {"loss": loss_of(F.linear(hidden, self.get_output_embeddings().weight), labels)}


def from_call(self, input_ids=None, labels=None, **_):
    """As Liger's path without labels: the layer is called, the rest is their own."""
    hidden = self.model(input_ids).last_hidden_state
    return {"loss": loss_of(self.lm_head(hidden), labels)}


def taken_before(model):
    """As TRL 1.7: the weight is taken when the forward is made."""
    weight = model.get_output_embeddings().weight

    def forward(self, input_ids=None, labels=None, **_):
        hidden = self.model(input_ids).last_hidden_state
        return {"loss": loss_of(F.linear(hidden, weight), labels)}

    return forward


def in_module(name, function):
    """The function as if it had been written in another package."""
    same = FunctionType(
        function.__code__,
        {**function.__globals__, "__name__": name},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    same.__kwdefaults__ = function.__kwdefaults__
    return same


def on_instance(model, function, *, wrapped=False):
    """Put it on the model; `wrapped` gives it the looks of the model's own, as TRL does."""
    if wrapped:
        function = functools.wraps(type(model).forward)(function)
    model.forward = MethodType(function, model)
