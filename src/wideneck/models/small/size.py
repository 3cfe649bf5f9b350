"""How much memory a model of a recipe needs, told before any of it is allocated."""

import os
import sys

import torch

from wideneck.config import HeadConfig
from wideneck.errors import WideneckError
from wideneck.files.boundary import failing, reason
from wideneck.heads import build
from wideneck.models.small.config import AwdLstm, Transformer
from wideneck.models.small.language_model import language_model
from wideneck.models.small.transformer import base_model


def at_least(model: AwdLstm | Transformer, head: HeadConfig, *, vocab_size: int) -> int:
    """How many numbers a checkpoint of the model holds at the least; nothing is allocated.

    Raises:
        WideneckError: there is no such model.
    """
    return sum(p.numel() for p in _on_meta(model, head, vocab_size))


def check_fits(model: AwdLstm | Transformer, head: HeadConfig, *, vocab_size: int) -> None:
    """Refuse a model that this machine has not the memory for.

    Counted are its weights and, where it is trained on the CPU, their gradients: what no setting
    does without.  Cost: the model is built on the meta device, which allocates nothing; some
    milliseconds per layer.

    Raises:
        WideneckError: it is too large, with the bytes that it needs; or there is no such model.
    """
    parameters = _on_meta(model, head, vocab_size)
    needed = sum(p.numel() * p.element_size() for p in parameters)
    what = "weights"
    if torch.accelerator.current_accelerator(check_available=True) is None:
        needed, what = 2 * needed, "weights and their gradients"
    memory = memory_of_machine()
    if needed > memory:
        raise WideneckError(
            f"The model's {what} would take {needed:,} bytes of memory, and this machine has "
            f"{memory:,}: give smaller sizes."
        )


def _on_meta(
    model: AwdLstm | Transformer, head: HeadConfig, vocab_size: int
) -> list[torch.nn.Parameter]:
    """All parameters; of a transformer, whose probe needs numbers, without the output matrix."""
    with (
        failing(lambda error: f"No model has these sizes ({reason(error)}): give smaller ones."),
        torch.random.fork_rng(devices=[]),
        torch.device("meta"),
    ):
        if isinstance(model, AwdLstm):
            return list(language_model(model, head, vocab_size=vocab_size).parameters())
        backbone = base_model(model, vocab_size)
        width = backbone.get_input_embeddings().weight.shape[1]
        built = build(head, hidden_size=width, vocab_size=vocab_size)
    others = (p for name, p in built.named_parameters() if name != "weight")  # the embedding, tied
    return [*backbone.parameters(), *others]


def memory_of_machine() -> int:
    """Bytes that a process can have at most; more than any machine has where it is not known."""
    if sys.platform == "win32":
        return sys.maxsize
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return memory if limit == resource.RLIM_INFINITY else min(limit, memory)
