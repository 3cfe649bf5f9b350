"""The output layer along training: the head's measures over a series of checkpoints.

Published checkpoints are not always what their names say: of Pythia-2.8b's 154 branches 76 serve
the final weights.  So every head is hashed, and equal ones are flagged before anything is drawn.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from wideneck.audits.clock import Clock
from wideneck.audits.head import HeadAudit, audit_head
from wideneck.audits.states import Progress
from wideneck.errors import WideneckError
from wideneck.models import read_head
from wideneck.report.provenance import provenance
from wideneck.report.series import SeriesPoint, SeriesReport

WEIGHTS = (".safetensors", ".bin", ".gguf", ".safetensors.index.json", ".bin.index.json")
NAMED = re.compile(r"(?:step|checkpoint|ckpt|iter|iteration)s?[-_=]?(\d+)", re.IGNORECASE)
EPOCH = re.compile(r"epochs?[-_=]?(\d+)", re.IGNORECASE)


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
            folders or files.  Steps are read off the names (`step1000`, `checkpoint-500`, `500`,
            `id@step1000`); without a step in every name the order given counts.
        argmaxable: also look for tokens that can never be predicted, at every checkpoint.
        seed: of the Gaussian null.
        progress: called as progress(stage, done, total).

    Raises:
        WideneckError: fewer than two checkpoints, or heads of different shapes.
    """
    names, notes = _checkpoints(models)
    steps = [_step(name) for name in names]
    if None in steps or len(set(steps)) < len(steps):
        notes.append("The names hold no step, or one step twice: steps are places in the series.")
        steps = list(range(len(names)))
    clock = Clock()
    points: list[SeriesPoint] = []
    order = sorted(range(len(names)), key=lambda i: steps[i] or 0)
    for done, i in enumerate(order):
        head = _measure(names[i], points, clock, argmaxable, seed, notes)
        if head is not None:
            points.append(SeriesPoint(name=str(names[i]), step=steps[i] or 0, head=head))
        if progress:
            progress("checkpoints", done + 1, len(names))
    if len(points) < 2:
        raise WideneckError(f"A series needs two checkpoints that can be measured. {notes[-1]}")
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
            notes=notes,
        ),
        points=points,
        identical=[group for group in hashes.values() if len(group) > 1],
    )


def _measure(
    name: str | os.PathLike,
    before: Sequence[SeriesPoint],
    clock: Clock,
    argmaxable: bool,
    seed: int,
    notes: list[str],
) -> HeadAudit | None:
    """One checkpoint; one that holds nothing to measure (a head of zeros) becomes a note."""
    with clock("read the heads"):
        head = read_head(name)
    if before:
        first = before[0].head
        if tuple(head.weight.shape) != (first.vocab_size, first.hidden_size):
            raise WideneckError(
                f"A series needs heads of one shape: {before[0].name} has {first.vocab_size} x "
                f"{first.hidden_size}, {name} has {' x '.join(map(str, head.weight.shape))}."
            )
    try:
        return audit_head(head, clock, argmaxable=argmaxable, seed=seed)
    except WideneckError as error:
        notes.append(f"{name} is left out: {error}")
        return None


def _checkpoints(
    models: Sequence[str | os.PathLike],
) -> tuple[list[str | os.PathLike], list[str]]:
    """The checkpoints named, or those in the one folder named; and what was left out of it."""
    names: list[str | os.PathLike] = list(models)
    notes: list[str] = []
    if len(names) == 1 and Path(names[0]).is_dir():
        inside = [path for path in Path(names[0]).iterdir() if _holds_weights(path)]
        with_step = [path for path in inside if _step(path) is not None]
        if len(with_step) > 1 and len(with_step) < len(inside):
            left = sorted(path.name for path in inside if _step(path) is None)
            notes.append(f"Left out, having no step in the name: {', '.join(left)}.")
            inside = with_step
        names = [*sorted(inside, key=lambda path: _natural(path.name))]
    if len(names) < 2:
        raise WideneckError(
            "A series needs at least two checkpoints: name them, or a folder that holds them; "
            f"{' '.join(map(str, models)) or 'nothing'} gives {len(names)}."
        )
    return names, notes


def _holds_weights(path: Path) -> bool:
    """A file of weights, or a folder with one.  A shard is not a checkpoint of its own."""
    if path.name.startswith("."):
        return False
    if path.is_dir():
        return any(name.name.endswith(WEIGHTS) for name in path.iterdir())
    return path.suffix in WEIGHTS and not re.search(r"-\d+-of-\d+\.", path.name)


def _step(name: str | os.PathLike) -> int | None:
    """The step that the last part of a name gives: of a path, or the revision of `id@revision`."""
    last = re.sub(r"\.(safetensors|bin|gguf)$", "", str(name).rstrip("/\\"))
    last = re.split(r"[/\\@]", last)[-1]
    for pattern in (NAMED, EPOCH, re.compile(r"^(\d+)$")):
        found = pattern.search(last)
        if found:
            return int(found[1])
    return None


def _natural(name: str) -> list[tuple[str, int]]:
    """A sort key in which 9 comes before 10."""
    return [(text, int(part or 0)) for text, part in re.findall(r"(\D*)(\d*)", name)]
