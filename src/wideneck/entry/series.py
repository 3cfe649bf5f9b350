"""The output layer along training: the head's measures over a series of checkpoints.

Published checkpoints are not always what their names say: of Pythia-2.8b's 154 branches 76 serve
the final weights.  So every head is hashed, and equal ones are flagged before anything is drawn.
"""

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from wideneck.audits.clock import Clock
from wideneck.audits.head import audit_head
from wideneck.audits.states import Progress
from wideneck.entry.heads import head_of
from wideneck.errors import WideneckError
from wideneck.files.printable import listed
from wideneck.models.source import WEIGHTS
from wideneck.report.provenance import provenance
from wideneck.report.series import SeriesPoint, SeriesReport

HELD = (*WEIGHTS, ".safetensors.index.json", ".bin.index.json")
LONGEST_STEP = 15
"""Digits; a longer number in a name is a hash or a date, or means nothing."""
NAMED_ONES = 12
"""Entries that one note names."""
NAMED = re.compile(r"(?ai)(?:step|checkpoint|ckpt|iter|iteration)s?[-_=]?(\d+)")
EPOCH = re.compile(r"(?ai)epochs?[-_=]?(\d+)")
ALONE = re.compile(r"(?a)^(\d+)$")
ENDING = re.compile(rf"({'|'.join(map(re.escape, WEIGHTS))})$")
SHARD = re.compile(r"-\d+-of-\d+\.")


def audit_series(
    models: Sequence[str | os.PathLike],
    *,
    argmaxable: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> SeriesReport:
    """Measure the head of each checkpoint, weights alone.

    A checkpoint that cannot be read or measured is left out, and so is one whose head has another
    shape than most (of equally many, than those that come first); the notes say why.

    Args:
        models: two or more of what `audit` takes as a model, or one folder that holds checkpoint
            folders or files.  Steps are read off the names (`step1000`, `checkpoint-500`, `500`,
            `id@step1000`); without a step in every name the order given counts.
        argmaxable: also look for tokens that can never be predicted, at every checkpoint.
        seed: draws the Gaussian matrices to compare with.
        progress: called as progress(stage, done, total).

    Raises:
        WideneckError: fewer than two checkpoints are named, or remain.
    """
    names, notes = _checkpoints(models)
    steps = [_step(name) for name in names]
    if None in steps or len(set(steps)) < len(steps):
        notes.append("The names hold no step, or one step twice: steps are places in the series.")
        steps = list(range(len(names)))
    clock = Clock()
    measured: list[SeriesPoint] = []
    reasons: list[str] = []
    for done, i in enumerate(sorted(range(len(names)), key=lambda i: steps[i] or 0)):
        try:
            with clock("read the heads"):
                read = head_of(names[i])
            head = audit_head(read, clock, argmaxable=argmaxable, seed=seed)
            measured.append(SeriesPoint(name=str(names[i]), step=steps[i] or 0, head=head))
        except WideneckError as error:
            reasons.append(f"{names[i]} is left out: {error}")
        if progress:
            progress("checkpoints", done + 1, len(names))
    points, others = _of_one_shape(measured)
    reasons += others
    if len(points) < 2:
        raise WideneckError(
            f"A series needs two checkpoints that can be measured, of one shape; {len(points)} of "
            f"{len(names)} can be. {listed(reasons, NAMED_ONES, ' ')}"
        )
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
            notes=[*notes, *reasons],
        ),
        points=points,
        identical=[group for group in hashes.values() if len(group) > 1],
    )


def _of_one_shape(measured: Sequence[SeriesPoint]) -> tuple[list[SeriesPoint], list[str]]:
    """The checkpoints whose heads have the commonest shape, and why the others are left out."""
    shapes = [(point.head.vocab_size, point.head.hidden_size) for point in measured]
    if not shapes:
        return [], []
    (most, count), *_ = Counter(shapes).most_common(1)  # of equally many, the one met first
    kept = [point for point, shape in zip(measured, shapes, strict=True) if shape == most]
    reasons = [
        f"{point.name} is left out: its head is {shape[0]} x {shape[1]}, and {most[0]} x {most[1]} "
        f"is the shape of {count} of {len(shapes)}."
        for point, shape in zip(measured, shapes, strict=True)
        if shape != most
    ]
    return kept, reasons


def _checkpoints(
    models: Sequence[str | os.PathLike],
) -> tuple[list[str | os.PathLike], list[str]]:
    """The checkpoints named, or those in the one folder named; and what was left out of it."""
    names: list[str | os.PathLike] = list(models)
    notes: list[str] = []
    if len(names) == 1 and os.path.isdir(names[0]):
        entries = sorted(Path(names[0]).iterdir(), key=lambda path: _natural(path.name))
        inside = [path for path in entries if _holds_weights(path)]
        held = set(inside)
        without = [path.name for path in entries if path not in held and _is_seen(path)]
        if without:
            notes.append(f"Without weights: {listed(without, NAMED_ONES)}.")
        with_step = [path for path in inside if _step(path) is not None]
        if 1 < len(with_step) < len(inside):
            left = [path.name for path in inside if _step(path) is None]
            notes.append(f"Left out, having no step in the name: {listed(left, NAMED_ONES)}.")
            inside = with_step
        names = [*inside]
    if len(names) < 2:
        raise WideneckError(
            "A series needs at least two checkpoints: name them, or a folder that holds them; "
            f"{' '.join(map(str, models)) or 'nothing'} gives {len(names)}."
        )
    return names, notes


def _holds_weights(path: Path) -> bool:
    """A file of weights, or a folder with one; of a folder that cannot be read its reader says why.

    A shard is not a checkpoint of its own.
    """
    if path.name.startswith("."):
        return False
    if not path.is_dir():
        return path.name.endswith(HELD) and not SHARD.search(path.name)
    try:
        return any(inner.name.endswith(HELD) for inner in path.iterdir())
    except OSError:
        return True


def _is_seen(path: Path) -> bool:
    """Neither hidden nor the part of a checkpoint beside it."""
    return not path.name.startswith(".") and not SHARD.search(path.name)


def _step(name: str | os.PathLike) -> int | None:
    """The step that the last part of a name gives: of a path, or the revision of `id@revision`."""
    last = ENDING.sub("", str(name).rstrip("/\\"))
    last = re.split(r"[/\\@]", last)[-1]
    for pattern in (NAMED, EPOCH, ALONE):
        found = pattern.search(last)
        if found and len(found[1]) <= LONGEST_STEP:
            return int(found[1])
    return None


def _natural(name: str) -> list[tuple[str, int, str]]:
    """A sort key in which 9 comes before 10."""
    found = re.findall(r"(?a)(\D*)(\d*)", name)
    return [(text, len(part.lstrip("0")), part.lstrip("0")) for text, part in found]
