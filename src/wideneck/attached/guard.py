"""Notices a forward of somebody else's that passes by a model's head.

Trainers and kernels replace `forward` and multiply hidden states by the weight of
`get_output_embeddings()`, which is a softmax whatever that layer is.  So a frame is open while a
model is called.  Our own forward marks it as its own; in any other frame the head does not hand
out its weight and bias, except to those who move parameters about.  A weight that was taken
earlier shows at the end: a training call with a loss in which neither our forward nor the head
was called.

Left open: a forward that is put on the class and then called as `model.forward(...)`.
"""

import functools
import inspect
import sys
import threading
from collections.abc import Callable, Mapping
from types import FunctionType, MethodType
from typing import Any, final

import torch

from wideneck.errors import WideneckError
from wideneck.heads.head import Head

PASSES_ON = {"torch", "peft", "contextlib", "functools"}
"""Packages that read an attribute for whoever called them."""
MOVES = {"accelerate", "deepspeed", "wideneck"}
"""Packages that read a weight to place it somewhere, and ourselves."""
ADVICE = {
    "trl": "call wideneck.trl.fused(trainer) once the trainer is made",
    "liger_kernel": "leave fused_linear_cross_entropy and cross_entropy of Liger off, as the head "
    "has a fused loss of its own",
    "verl": "set use_fused_kernels=False",
    "peft": "attach the head with tie=False before ensure_weight_tying, or leave the tied "
    "embedding out of modules_to_save",
    "unsloth": "load the model with transformers",
}
DEFAULT_ADVICE = (
    "leave the output layer as it is, let the model's own forward compute the loss from labels, "
    "or take what is needed per token from model.token_outputs"
)

_own: set[Callable] = set()
"""Our forwards.  No mark on the function would do: functools.wraps copies it."""


def own(forward: Any) -> Any:
    """Remember a forward as ours."""
    _own.add(forward)
    return forward


@final
class Frame:
    """One call of a model."""

    def __init__(self, model: Any):
        self.model = model
        self.own = False
        """Whether our forward has been entered."""
        self.called = False
        """Whether the head has been called."""


class _Open(threading.local):
    def __init__(self):
        self.frame: Frame | None = None  # one's own from the start: a graph looks for it


_open = _Open()


def guarded(model: Any, forward: Callable, args: tuple, kwargs: dict, *, own: bool = False) -> Any:
    """Call a forward of the model in a frame of its own, or in the one that is open for it."""
    before = _open.frame
    if before is not None and before.model is model:
        if not own:
            return forward(*args, **kwargs)
        outside, before.own = before.own, True
        result = forward(*args, **kwargs)
        before.own = outside or not _gives_states(result)
        return result
    frame = Frame(model)
    frame.own = own
    _open.frame = frame
    try:
        result = forward(*args, **kwargs)
    finally:
        _open.frame = before
    if not frame.own and not frame.called:
        _check_answer(model, kwargs, result)
    return result


def _gives_states(result: Any) -> bool:
    """Whether hidden states are what our forward was called for: a loss is then still to come."""
    given = getattr(result, "hidden_states", None), getattr(result, "loss", None)
    return given[0] is not None and given[1] is None


def head_is_called() -> None:
    """Note that a head computes, in whatever forward."""
    if _open.frame is not None:
        _open.frame.called = True


def check_reader(name: str) -> None:
    """Refuse the weight or bias of a head to a forward that is not ours."""
    frame = _open.frame
    if frame is None or frame.own or _has_own_forward(frame.model):
        return
    reader = "The compiled forward" if torch.compiler.is_compiling() else _reader()
    if reader is not None:
        raise WideneckError(
            f"{reader} reads the {name} of the head of this {type(frame.model).__name__}, which "
            f"would make a plain softmax of it: {_advice(reader)}."
        )


def framed(model: Any, forward: Any) -> Any:
    """A forward that is put on an instance, with a frame for those who call it by its name."""
    function = forward.__func__ if isinstance(forward, MethodType) else forward

    @functools.wraps(function)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return guarded(self, forward, args, kwargs)

    own_self = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    signature = inspect.signature(forward)
    others = [p for p in signature.parameters.values() if p.name != "self"]
    call.__signature__ = signature.replace(parameters=[own_self, *others])  # pyrefly: ignore
    return MethodType(call, model)


def is_own(forward: Any) -> bool:
    """Whether a forward is ours, bound or not."""
    return getattr(forward, "__func__", forward) in _own


def _has_own_forward(model: Any) -> bool:
    """Whether nobody has replaced it: what reads before it is a hook, which computes no loss."""
    return "forward" not in vars(model) and is_own(type(model).forward)


def source_of(forward: Any) -> str:
    """The module in which a forward was written, whatever it says of itself."""
    while not isinstance(forward, FunctionType) or forward.__globals__ is globals():
        if isinstance(forward, functools.partial):
            forward = forward.func
        elif isinstance(forward, MethodType):
            forward = forward.__func__
        elif hasattr(forward, "__wrapped__"):
            forward = forward.__wrapped__
        else:
            return type(forward).__module__
    return forward.__globals__["__name__"]


def unanswered(model: Any) -> WideneckError:
    """The error for a call of our own forward in which the head was not called."""
    who, module = _in_the_way(model)
    return WideneckError(
        f"The head of this {type(model).__name__} was not called, so there is neither a loss nor "
        f"a prediction: {who}; {_advice(module)}."
    )


def _in_the_way(model: Any) -> tuple[str, str]:
    """Who keeps the head from being called, in a few words, and the module of that."""
    layer = model.get_output_embeddings()
    kind, module = type(layer).__name__, type(layer).__module__
    for part in layer.modules():
        if "forward" in vars(part):
            source = source_of(vars(part)["forward"])
            return f"{source} has replaced the forward of its output layer", source
    if not any(isinstance(part, Head) for part in layer.modules()):
        return f"its output layer is now a {kind} of {module}", module
    if not isinstance(layer, Head):
        return f"a {kind} of {module} wraps its output layer and does not call it", module
    source = source_of(type(model).__bases__[-1].forward)
    return f"the forward of {source} does not call it", source


def refuse_patched(model: Any, what: str) -> None:
    """Refuse a model on which somebody has put a forward: it would pass by what is attached."""
    if "forward" in vars(model):
        source = source_of(vars(model)["forward"])
        raise WideneckError(
            f"{source} has replaced the forward of this {type(model).__name__}, which would pass "
            f"by what {what} puts in: call {what} before."
        )


def _check_answer(model: Any, kwargs: dict, result: Any) -> None:
    if not model.training or not torch.is_grad_enabled():
        return
    labelled = any(kwargs.get(name) is not None for name in ("labels", "shift_labels"))
    look = result.get if isinstance(result, Mapping) else functools.partial(getattr, result)
    answered = any(look(name, None) is not None for name in ("loss", "log_probs"))
    if labelled or answered:
        source = source_of(vars(model).get("forward", type(model).forward))
        raise WideneckError(
            f"The forward of {source} trains this {type(model).__name__} without its head, as a "
            f"plain softmax: {_advice(source)}."
        )


def _reader() -> str | None:
    """The module that reads an attribute of the head, or None where that is no computation."""
    frame: Any = sys._getframe(3)  # of whoever wrote head.weight
    while frame is not None:
        module = frame.f_globals.get("__name__", "?")
        root = module.partition(".")[0]
        if root in MOVES:
            return None
        if root not in PASSES_ON:
            return module
        frame = frame.f_back
    return None


def _advice(module: str) -> str:
    return ADVICE.get(module.partition(".")[0].partition("_zoo")[0], DEFAULT_ADVICE)
