"""One trained model in three ways: without its memory, with it, and with one fitted afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from wideneck.attached.swap import placed_memory, put_memory
from wideneck.memory import Memory
from wideneck.memory.module import CacheMemory

OFF = Memory(temperature=1.0, bias=-1e9)
"""A memory that has no share in any prediction."""
VIEWS = {
    "off": "memory off at decoding",
    "full": "with its memory, as trained",
    "fitted": "cache fitted afterwards",
}
WRITTEN = {
    "cross_entropy": ("off", "fitted"),
    "cross_entropy_histalign": ("off", "fitted"),
    "trime": ("full", "off"),
    "trime_histalign": ("full", "off"),
}
"""By which views each objective writes: the likelihood of the first two trains no memory."""


def memory_of(model: Any) -> CacheMemory:
    """The part of a memory that a model holds."""
    found = placed_memory(model)
    assert found is not None
    return found


def trained_memory(model: Any) -> Memory:
    """The config of a model's memory, with the temperature and bias that it has learned."""
    memory, found = memory_of(model), memory_of(model).config
    if memory.log_temperature is not None:
        found = replace(found, temperature=memory.log_temperature.exp().item())
    if memory.bias is not None:
        found = replace(found, bias=memory.bias.item())
    return found


@contextmanager
def with_memory(model: Any, memory: Memory) -> Iterator[None]:
    """Inside, the model predicts with another memory; its own is back afterwards.

    Args:
        model: with a memory.
        memory: with its temperature and bias.
    """
    own = memory_of(model)
    put_memory(model, replace(memory, learned=False))
    try:
        yield
    finally:
        model.cache_memory = own
