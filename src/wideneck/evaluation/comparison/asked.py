"""What a comparison is of."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from wideneck.audits.clock import Clock
from wideneck.audits.states import Progress
from wideneck.data import Text
from wideneck.evaluation.comparison.results import Source
from wideneck.models.placement import Placement
from wideneck.report.provenance import stamped

Model = str | os.PathLike | nn.Module | None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Models, and the text that they read."""

    text: Text
    models: Sequence[Model]
    """Group by group."""
    names: Sequence[str]
    """What each is called; no two alike."""
    tokenizers: Sequence[Any]
    """One for each model."""
    places: Sequence[Placement]
    """Where each of them runs."""
    groups: dict[str, int]
    """Name of each group and how many models it has; empty where models are compared."""
    num_tokens: int
    window: int
    seed: int
    clock: Clock
    progress: Progress | None

    def source(self, num_tokens: int, num_documents: int, notes: list[str]) -> Source:
        """Where the numbers come from."""
        return stamped(
            Source,
            text=self.text.name,
            text_sha256=self.text.sha256,
            num_tokens=num_tokens,
            num_documents=num_documents,
            window=self.window,
            seed=self.seed,
            device=", ".join(dict.fromkeys(str(place.device) for place in self.places)),
            seconds=self.clock.seconds,
            notes=notes,
        )

    def cut_short(self, num_tokens: int, num_documents: int) -> list[str]:
        """Notes on what the text did not have."""
        notes = []
        if num_tokens < self.num_tokens:
            notes.append(
                f"{self.num_tokens:,} tokens were asked for, {num_tokens:,} measured: whole "
                f"windows of {self.window}, as many as the text holds."
            )
        if num_documents == 1:
            notes.append(
                "All windows come from one document: the intervals are over windows, and say "
                "nothing of other texts."
            )
        return notes
