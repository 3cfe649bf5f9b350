"""Where a model keeps its memory: a module of its own beside the rest."""

from typing import Any

from wideneck.memory.config import Memory
from wideneck.memory.module import CacheMemory

NAME = "cache_memory"
"""The module's name, and the beginning of its tensors' names."""


def put_memory(model: Any, config: Memory) -> None:
    """A memory whose numbers are those of the config; loading fills in learned ones."""
    head = model.get_output_embeddings()
    head.remembers = True
    memory = CacheMemory(config, device=head.weight.device)
    setattr(model, NAME, memory.train(model.training))
    strict = set(model._keep_in_fp32_modules_strict or ())
    model._keep_in_fp32_modules_strict = strict | {NAME}


def placed_memory(model: Any) -> CacheMemory | None:
    """The memory of a model, or None."""
    return model._modules.get(NAME)
