"""Where the numbers of an evaluation come from."""

from typing import Any

import torch
from torch import nn

from wideneck.commands.evaluated_text import Chosen
from wideneck.config import name_of
from wideneck.evaluation.results import Source
from wideneck.heads import Head
from wideneck.report.provenance import stamped


def device() -> torch.device:
    """Where a model that is loaded for it runs: an accelerator, or else the CPU."""
    found = torch.accelerator.current_accelerator(check_available=True)
    return torch.device("cpu") if found is None else found


def evaluation_source(
    *,
    model: str,
    kind: str,
    head: Head | None,
    module: nn.Module,
    text: Chosen,
    seconds: dict[str, float],
    notes: list[str],
) -> Source:
    """Add versions, command and time to what the evaluation knows.

    Args:
        model: what the user named.
        kind: "run" or "model".
        head: None for a model's own output layer.
        module: the model itself.
        text: what it read.
        seconds: of each step.
        notes: sentences.
    """
    first: Any = next(module.parameters())
    return stamped(
        Source,
        model=model,
        kind=kind,
        head="own" if head is None else name_of(head.config),
        num_parameters=sum(parameter.numel() for parameter in module.parameters()),
        text=text.name,
        split=text.split,
        text_sha256=text.sha256,
        num_documents=len(text.documents),
        device=str(first.device),
        dtype=str(first.dtype).removeprefix("torch."),
        seconds=seconds,
        notes=notes,
    )
