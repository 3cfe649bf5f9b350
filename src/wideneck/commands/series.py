"""The output layer along training: the head's measures over a series of checkpoints.

Published checkpoints are not always what their names say: of Pythia-2.8b's 154 branches 76 serve
the final weights.  So every head is hashed, and equal ones are flagged before anything is drawn.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import torch

from wideneck.audits.clock import Clock
from wideneck.audits.head import audit_head
from wideneck.audits.states import Progress
from wideneck.errors import WideneckError
from wideneck.models import read_head
from wideneck.report.provenance import provenance
from wideneck.report.series import SeriesPoint, SeriesReport

STEP = re.compile(r"(?:step|checkpoint|iter|epoch)s?[-_=]?(\d+)", re.IGNORECASE)


@torch.no_grad()
def audit_series(
    models: Sequence[str | os.PathLike],
    *,
    argmaxable: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> SeriesReport:
    """Measure the head of each checkpoint, weights alone.

    Args:
        models: two or more of what `audit` takes as a model, or one folder that holds checkpoint
            folders.  Steps are read off the names (`step1000`, `checkpoint-500`, ...) where all
            have one, and the order is then that of the steps; else the order given counts.
        argmaxable: also look for tokens that can never be predicted, at every checkpoint.

    Raises:
        WideneckError: fewer than two checkpoints, or heads of different shapes.
    """
    names = _expand(models)
    steps = [_step(name) for name in names]
    if any(step is None for step in steps) or len(set(steps)) < len(steps):
        steps = list(range(len(names)))
    clock = Clock()
    points: list[SeriesPoint] = []
    order = sorted(range(len(names)), key=lambda i: (steps[i], i))
    for done, i in enumerate(order):
        with clock("read the heads"):
            head = read_head(names[i])
        section = audit_head(head, clock, argmaxable=argmaxable, seed=seed)
        points.append(SeriesPoint(name=str(names[i]), step=int(steps[i] or 0), head=section))
        first = points[0].head
        if (section.vocab_size, section.hidden_size) != (first.vocab_size, first.hidden_size):
            raise WideneckError(
                f"A series needs heads of one shape: {points[0].name} has {first.vocab_size} x "
                f"{first.hidden_size}, {names[i]} has {section.vocab_size} x {section.hidden_size}."
            )
        if progress:
            progress("checkpoints", done + 1, len(names))
    hashes: dict[str, list[str]] = {}
    for point in points:
        hashes.setdefault(point.head.sha256, []).append(point.name)
    return SeriesReport(
        provenance=provenance(
            model=f"{len(points)} checkpoints",
            head_sha256=points[-1].head.sha256,
            head_dtype=points[-1].head.dtype,
            seed=seed,
            seconds=clock.seconds,
        ),
        points=points,
        identical=[group for group in hashes.values() if len(group) > 1],
    )


def _expand(models: Sequence[str | os.PathLike]) -> list[str | os.PathLike]:
    names: list[str | os.PathLike] = list(models)
    if len(names) == 1 and Path(names[0]).is_dir():
        folder = Path(names[0])
        names = [p for p in sorted(folder.iterdir()) if p.is_dir() or p.suffix == ".safetensors"]
    if len(names) < 2:
        raise WideneckError(
            "A series needs at least two checkpoints: name them, or a folder that holds them; "
            f"{' '.join(map(str, models)) or 'nothing'} gives {len(names)}."
        )
    return names


def _step(name: str | os.PathLike) -> int | None:
    """The last number that the name calls a step."""
    found = STEP.findall(str(name))
    return int(found[-1]) if found else None
