"""A model's own copy of its config, before anything is written there.

Models of transformers keep the config object that they were made from, and so may share it with
others: two models of one config, a draft and its target, a model and what is made of its config
later.  What is done to one of them must not change the others.
"""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

from torch import nn
from transformers import PreTrainedConfig

DEPTH = 4
"""How deep containers within containers are looked into; they may hold themselves."""


def own_config(model: nn.Module) -> Callable[[], None]:
    """Let every part of a model point to a copy of the config it pointed to.

    Parts that shared a config share the copy, and a copy holds the copies of what its original
    held, so `model.config.get_text_config()` is what the layers read, if it was.  Call it before
    writing into a config of the model.  The modules are looked through for configs held as
    attributes, in lists and dictionaries, or in dataclasses.

    Returns:
        What gives the model its former configs back.
    """
    found: dict[int, PreTrainedConfig] = {}

    def note(config: PreTrainedConfig) -> PreTrainedConfig:
        found[id(config)] = config
        return config

    modules = list(model.modules())
    for module in modules:
        for value in vars(module).values():
            _exchanged(value, note)
    copies: dict[int, Any] = {}
    copy.deepcopy(list(found.values()), copies)
    before: list[tuple[dict[str, Any], str, Any]] = []
    for module in modules:
        for name, value in list(vars(module).items()):
            changed = _exchanged(value, lambda config: copies[id(config)])
            if changed is not value:
                before.append((vars(module), name, value))
                vars(module)[name] = changed

    def give_back() -> None:
        for held, name, value in before:
            held[name] = value

    return give_back


def _exchanged(
    value: Any, exchange: Callable[[PreTrainedConfig], PreTrainedConfig], depth: int = 0
) -> Any:
    """The value with its configs exchanged; the value itself where it holds none."""
    if isinstance(value, PreTrainedConfig):
        return exchange(value)
    if depth == DEPTH:
        return value
    if type(value) in (list, tuple):
        items = [_exchanged(item, exchange, depth + 1) for item in value]
        return type(value)(items) if _differ(items, value) else value
    if type(value) is dict:
        items = {key: _exchanged(item, exchange, depth + 1) for key, item in value.items()}
        return items if _differ(items.values(), value.values()) else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if field.init]
        items = {name: _exchanged(getattr(value, name), exchange, depth + 1) for name in names}
        changed = {name: item for name, item in items.items() if item is not getattr(value, name)}
        return dataclasses.replace(value, **changed) if changed else value
    return value


def _differ(ours: Any, theirs: Any) -> bool:
    return any(one is not other for one, other in zip(ours, theirs, strict=True))
