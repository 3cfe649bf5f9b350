"""Runs a model on token ids alone, as every measurement of a stranger's model does."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch import Tensor, nn

from wideneck.files.boundary import failing, reason
from wideneck.models.device_map import input_device


def ask(model: Any, **inputs: Any) -> Any:
    """What the model returns for tensors, wherever they are.

    Raises:
        WideneckError: in the place of whatever a model raises that wants other inputs, such as
            images, or a shape of its own, or more memory than there is.
    """
    tokens = [name for name, value in inputs.items() if isinstance(value, Tensor)]
    with running(model, " and ".join(tokens)):
        here = input_device(model)
        inputs |= {name: inputs[name].to(here) for name in tokens}
        return model(**inputs)


def running(model: Any, inputs: str = "input_ids") -> AbstractContextManager[None]:
    """Turn everything that a model raises inside, but an interruption, into one WideneckError.

    Args:
        model: for its class's name.
        inputs: what it is run on, for the message.
    """
    # The model is anybody's; each raises what it likes.
    return failing(
        lambda error: (
            f"{type(model).__name__} does not run on {inputs} alone, by which wideneck gets to "
            f"know a model ({reason(error)}): give a model that predicts text from text."
        )
    )


def name_of(model: nn.Module) -> str:
    """What messages and reports call a model in memory."""
    name = getattr(getattr(model, "config", None), "name_or_path", "")
    return name or type(model).__name__


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside, and each module's own mode again after: the model may be in training."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
