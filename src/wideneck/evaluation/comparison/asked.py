"""What a comparison is of."""

import os
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
    """Models of one or several tokenizers, and the text that they read."""

    text: Text
    models: list[Model]
    tokenizers: list[Any]
    """One for each model."""
    num_tokens: int
    window: int
    seed: int
    places: list[Placement]
    """Where each of them runs."""
    clock: Clock
    progress: Progress | None

    def source(self, num_tokens: int | None, num_documents: int, notes: list[str]) -> Source:
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
