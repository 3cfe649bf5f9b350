"""Whether the attention of every layer with a normalizer came to our attention function.

A client may replace the forward of an attention layer after `use`, on its class or its instance,
and compute a softmax of its own there: the normalizer would stand in the layer, be saved, and do
nothing.  So a model's forward counts the layers whose attention arrived.  Where one did not, either
the layer was not run, as under layer drop, or something stands in the way, which is then named.

Two modules of a model are watched: the model, and the innermost one that holds all its places, as
some clients call only that one.  Cost: two hooks a forward, one entry in a set a layer.  Forwards
inside compiled graphs are not watched.
"""

import functools
import sys
import threading
from itertools import takewhile
from typing import Any

import torch
from torch import nn

from wideneck.attention.learned import LearnedNormalizer
from wideneck.errors import WideneckError

_KEY = "_wideneck_layers"
"""On a watched module: the names, within it, of the layers that were given a normalizer."""

WRAPPERS = ("accelerate", "peft", "torch", "transformers", "wideneck")
"""Packages whose wrappers of a forward call what they wrap."""


class _Open(threading.local):
    """The forwards of this thread that are under way: which layers' attention has arrived."""

    def __init__(self):
        self.arrived: dict[int, set[int]] = {}


_open = _Open()


def arrive(layer: nn.Module) -> None:
    """The attention of a layer has come to a function of ours."""
    if torch.compiler.is_compiling():
        return
    for seen in _open.arrived.values():
        seen.add(id(layer))


def watch(model: nn.Module, names: list[str]) -> None:
    """Have forwards of the model checked.

    Args:
        model: what holds the layers.
        names: of the layers with a normalizer, dotted.
    """
    for module, prefix in _watched(model, names):
        unwatch_one(module)
        vars(module)[_KEY] = tuple(name.removeprefix(prefix) for name in names)
        module.register_forward_pre_hook(_begin)
        module.register_forward_hook(_end)


def unwatch(model: nn.Module) -> None:
    """Take the hooks of `watch` out again, wherever they are."""
    for module in model.modules():
        unwatch_one(module)


def unwatch_one(module: nn.Module) -> None:
    """Out of one module."""
    if vars(module).pop(_KEY, None) is None:
        return
    for hooks, ours in ((module._forward_pre_hooks, _begin), (module._forward_hooks, _end)):
        for key in [key for key, hook in hooks.items() if hook is ours]:
            del hooks[key]


def _watched(model: nn.Module, names: list[str]) -> list[tuple[nn.Module, str]]:
    """The model and the innermost module of a forward that holds all the places, with its name."""
    parts = zip(*(name.split(".")[:-1] for name in names), strict=False)
    common = [same[0] for same in takewhile(lambda same: len(set(same)) == 1, parts)]
    while common and isinstance(
        model.get_submodule(".".join(common)), nn.ModuleList | nn.ModuleDict
    ):
        common.pop()
    inner = ".".join(common)
    return [(model, ""), *([(model.get_submodule(inner), f"{inner}.")] if common else [])]


def _begin(module: nn.Module, _args: Any) -> None:
    if not torch.compiler.is_compiling():
        _open.arrived[id(module)] = set()


def _end(module: nn.Module, _args: Any, _output: Any) -> None:
    if torch.compiler.is_compiling():
        return
    seen = _open.arrived.pop(id(module), None)
    if seen is not None and len(seen) < len(vars(module).get(_KEY, ())):
        _explain(module, seen)


def _explain(model: nn.Module, seen: set[int]) -> None:
    """Refuse where something kept a layer from us; a layer that was not run is fine."""
    modules = dict(model.named_modules())
    for name in vars(model)[_KEY]:
        layer = modules.get(name)
        if layer is not None and not any(isinstance(m, LearnedNormalizer) for m in layer.modules()):
            raise WideneckError(
                f"The layer {name!r} has lost its normalizer, because a "
                f"{type(layer).__module__}.{type(layer).__name__} has been put in its place: put "
                "the layer back, or call wideneck.attention.use again."
            )
    for name, layer in modules.items():
        normalizer = layer._modules.get("normalizer")
        if id(layer) in seen or not isinstance(normalizer, LearnedNormalizer):
            continue
        pieces = name.split(".")
        around = [modules[".".join(pieces[:end])] for end in range(len(pieces), 0, -1)]
        if any(_is_compiled(holder) for holder in around):
            continue  # what happens in there is not seen
        other = _other_implementation([*around, model])
        if other is not None:
            raise WideneckError(
                f"The attention of layer {name!r} goes past its normalizer, because the attention "
                f"implementation has been set to {other!r}: call wideneck.attention.use again "
                "instead of set_attn_implementation."
            )
        for holder in around:
            stranger = _stranger(holder, of_transformers=holder is layer)
            if stranger is not None:
                raise WideneckError(
                    f"The attention of layer {name!r} goes past its normalizer, because {stranger} "
                    f"stands in the place of {type(holder).__name__}.forward: take that patch out, "
                    "or give the model its own attention with wideneck.attention.use(model, "
                    "'softmax')."
                )


def _is_compiled(module: nn.Module) -> bool:
    """By `module.compile()` or by `torch.compile(module)`."""
    return getattr(module, "_compiled_call_impl", None) is not None or hasattr(module, "_orig_mod")


def _other_implementation(around: list[nn.Module]) -> str | None:
    """The attention implementation that the innermost config names, unless it is one of ours."""
    for holder in around:
        name = getattr(getattr(holder, "config", None), "_attn_implementation", None)
        if isinstance(name, str):
            return None if name.startswith("wideneck") else name
    return None


def _stranger(module: nn.Module, *, of_transformers: bool) -> str | None:
    """What stands in the place of a module's forward and need not call it, by name; else None.

    A layer that `of_transformers` says to have been one of theirs may have got another class.
    """
    own = {(kind.__module__, f"{kind.__qualname__}.forward") for kind in type(module).__mro__}
    found: Any = vars(module).get("forward", type(module).forward)
    while True:
        found = getattr(found, "__func__", found)
        function = found.func if isinstance(found, functools.partial) else found
        function = getattr(function, "__func__", function)
        home = _home(function)
        package = home.partition(".")[0]
        if _is_one_of(function, own) and (package in WRAPPERS or not of_transformers):
            return None
        inner = getattr(found, "__wrapped__", None)
        if package not in WRAPPERS or (inner is None and package != "torch"):
            code = getattr(function, "__code__", None)
            name = getattr(function, "__qualname__", type(function).__name__)
            return f"{home}.{name if code is None else code.co_qualname}"
        if inner is None:
            return None  # torch's own, such as a compiled or sharded part: it calls what it holds
        found = inner


def _is_one_of(function: Any, own: set[tuple[str, str]]) -> bool:
    """Whether a function is the forward of a class, and not one that `functools.wraps` named so."""
    module = getattr(function, "__module__", None)
    if (module, getattr(function, "__qualname__", None)) not in own:
        return False
    return getattr(function, "__globals__", None) is vars(sys.modules.get(str(module), sys))


def _home(function: Any) -> str:
    """The module whose code a function is, whatever `functools.wraps` says."""
    names = getattr(function, "__globals__", {})
    return names.get("__name__") or getattr(function, "__module__", None) or "?"
