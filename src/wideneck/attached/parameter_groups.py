"""Parameters by how an optimizer should treat them.

Learned numbers, what an activation, a normalizer or a memory learns, are found by the type of the
module that holds them: no name tells a scale from a matrix, and a shift that starts at 55 must not
decay to 0.
"""

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from wideneck.attention.learned import LearnedNormalizer
from wideneck.errors import WideneckError
from wideneck.heads.head import Head, LearnedActivation
from wideneck.heads.mixture import Projections
from wideneck.memory.module import CacheMemory

HOLDERS = (LearnedActivation, LearnedNormalizer, CacheMemory)
"""Modules all of whose parameters are learned numbers."""
LEARNED_RATE = 1e-2
"""AdamW moves a parameter by about its rate a step.  Learned numbers are of size 1 (nats, logits,
slopes), matrices of size 0.02: at the rate of a fine-tuning, 1e-5, a number would not move.  It is
the rate of the comparison in docs/heads.md; SGD's for AWD-LSTMs is 0.02."""


def learned_numbers(model: nn.Module) -> list[nn.Parameter]:
    """Every parameter of the model that is a learned number of wideneck; none of them decays."""
    found: dict[int, nn.Parameter] = {}
    for module in model.modules():
        if isinstance(module, HOLDERS):
            found |= {id(p): p for p in module.parameters()}
    return list(found.values())


def of_own_rate(parameter: Tensor) -> bool:
    """Whether a learned number has the rate of its own.

    Not what asentmax multiplies by h, (H, D): every entry moves its score by the size of h.
    """
    return parameter.ndim <= 1


def parameter_groups(
    model: nn.Module,
    weight_decay: float = 0.01,
    *,
    learned_rate: float = LEARNED_RATE,
    muon: bool = False,
) -> list[dict[str, Any]]:
    """The trained parameters of a model in groups, for an optimizer of PyTorch.

    Every parameter that requires a gradient is in one group, each with a `name`:

    - "matrices", with `muon` only and then first: the hidden matrices, for `torch.optim.Muon`.  A
      mixture's projections are K matrices there, one per component.
    - "decayed": all else of two dimensions or more.
    - "undecayed": biases and gains; asentmax's weights, which start at 0.
    - "learned": the learned numbers of activations, normalizers and memories, at a rate of their
      own and without decay.

    ::

        optimizer = torch.optim.AdamW(wn.parameter_groups(model, weight_decay=0.1), lr=2e-5)

        matrices, *others = wn.parameter_groups(model, weight_decay=0.1, muon=True)
        muon, adamw = torch.optim.Muon([matrices], lr=0.02), torch.optim.AdamW(others, lr=3e-4)

    Args:
        model: with a head, normalizer or memory of wideneck or without, also in a wrapper (PEFT,
            DDP, FSDP2).
        weight_decay: of "matrices" and "decayed".
        learned_rate: of "learned".  The other groups have no `lr`, so the optimizer's holds.
        muon: whether there are "matrices".  Call it once the model is on its device: a component is
            a view of its matrix.

    Returns:
        The groups that are not empty; with `muon`, "matrices" in any case.

    Raises:
        WideneckError: a number out of range; with `muon`, a mixture that is sharded.
    """
    for name, number in (("weight_decay", weight_decay), ("learned_rate", learned_rate)):
        if isinstance(number, bool) or not isinstance(number, int | float) or not number >= 0:
            raise WideneckError(f"parameter_groups needs {name} >= 0, got {number!r}.")
    options: dict[str, dict[str, float]] = {
        "matrices": {"weight_decay": weight_decay},
        "decayed": {"weight_decay": weight_decay},
        "undecayed": {"weight_decay": 0.0},
        "learned": {"weight_decay": 0.0, "lr": learned_rate},
    }
    groups: dict[str, list[Tensor]] = {name: [] for name in options}
    numbers = {id(p) for p in learned_numbers(model)}
    tables = {id(p) for p in _tables(model)} if muon else set()
    stacked = {  # matrices that hold K components one below the other
        id(module.latent.weight): module.config.num_components
        for module in model.modules()
        if muon and isinstance(module, Projections)
    }
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        if id(parameter) in numbers:
            groups["learned" if of_own_rate(parameter) else "undecayed"].append(parameter)
        elif parameter.ndim < 2:
            groups["undecayed"].append(parameter)
        elif not muon or parameter.ndim > 2 or id(parameter) in tables:
            groups["decayed"].append(parameter)
        else:
            groups["matrices"] += _components(parameter, stacked.get(id(parameter), 1))
    return [
        {"name": name, "params": parameters, **options[name]}
        for name, parameters in groups.items()
        if parameters or (muon and name == "matrices")
    ]


class Component(nn.Parameter):
    """Rows of a matrix as a parameter of their own; values and gradient are the matrix's."""

    whole: nn.Parameter
    rows: slice

    def __new__(cls, whole: nn.Parameter, rows: slice) -> "Component":
        made: Any = super().__new__(cls, whole.detach()[rows], requires_grad=True)
        made.whole, made.rows = whole, rows
        return made

    def __init__(self, whole: nn.Parameter, rows: slice):
        pass

    @property
    def grad(self) -> Tensor | None:  # pyrefly: ignore[bad-override]
        """A view of the matrix's gradient, so that clipping the one clips the other."""
        return None if self.whole.grad is None else self.whole.grad[self.rows]

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is None:  # an optimizer lets go of all components together
            self.whole.grad = None
            return
        if self.whole.grad is None:
            self.whole.grad = torch.zeros_like(self.whole)
        self.whole.grad[self.rows] = value


def _components(parameter: nn.Parameter, count: int) -> list[nn.Parameter]:
    if count == 1:
        return [parameter]
    if isinstance(parameter, DTensor):
        raise WideneckError(
            "parameter_groups with muon=True makes a matrix of each component of a mixture, and "
            "this mixture is sharded (DTensor): leave out muon, or train it without FSDP2."
        )
    size = len(parameter) // count
    return [Component(parameter, slice(k * size, (k + 1) * size)) for k in range(count)]


def _tables(model: Any) -> Iterator[Any]:
    """Matrices with one row per token or component: what enters and what leaves a model."""
    for module in model.modules():
        if isinstance(module, nn.Embedding | Head):
            yield module.weight
        elif isinstance(module, Projections):
            yield module.prior.weight
        getter = getattr(module, "get_output_embeddings", None)
        layer = None if getter is None else getter()
        if isinstance(layer, nn.Module):
            yield from layer.parameters(recurse=isinstance(layer, nn.ModuleList))


def teach_trainer(trainer: Any) -> None:
    """Have transformers' Trainer leave learned numbers undecayed, at a rate of their own.

    It tells what decays by names ("bias", "norm") and by nn.LayerNorm, asks no model, and has no
    list to extend.  So two of its methods are followed by a step, which acts on models with learned
    numbers of wideneck only and changes no name in any state dict.
    """
    cls = trainer.Trainer
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
        if given or not isinstance(optimizer, torch.optim.Optimizer):
            return optimizer
        numbers = learned_numbers(self.model if model is None else model)
        learned = {id(p) for p in numbers if of_own_rate(p)}
        groups = optimizer.param_groups
        for group in list(groups):
            apart = [p for p in group["params"] if id(p) in learned]
            if not apart or not group.get("lr"):  # a rate of 0 stays 0
                continue
            group["params"] = [p for p in group["params"] if id(p) not in learned]
            own = {"params": apart, "lr": LEARNED_RATE, "weight_decay": 0.0, "name": "learned"}
            optimizer.add_param_group({**group, **own})
        groups[:] = [group for group in groups if group["params"]]
        return optimizer

    cls.get_decay_parameter_names = get_decay_parameter_names
    cls.create_optimizer = create_optimizer
