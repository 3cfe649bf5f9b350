"""Where the numbers of a report come from."""

import platform
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from wideneck.audits.measure import measure
from wideneck.report.numbers import number
from wideneck.report.parts import Heading, Piece, Terms, Verbatim, line, note

T = TypeVar("T")
LONG = 2000
"""Characters of a name that the provenance shows."""

PACKAGES = ("wideneck", "torch", "transformers", "numpy", "scipy")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Model, text, software and command."""

    model: str = measure("what was audited, as it was named")
    head_sha256: str = measure("hash of the output layer's stored bytes")
    head_dtype: str = measure("storage type of the output layer")
    compute_dtype: str | None = measure(
        "type in which the model ran; none if it did not. From its hidden states on, losses are "
        "float32, spectra and ranks float64",
        default=None,
    )
    device: str = measure(
        "where it was computed: the model, and what follows from its states where that device has "
        "float64, else on the CPU",
        default="cpu",
    )
    device_map: dict[str, str] | None = measure(
        "where the modules of the model were, if not all in one place", default=None
    )
    text: str | None = measure("the text; none for weights alone", default=None)
    text_sha256: str | None = measure("hash of the text's documents", default=None)
    num_tokens: int | None = measure("predictions made on the text", unit="tokens", default=None)
    seed: int = measure("random seed that chose the windows and drew the Gaussian null")
    versions: dict[str, str] = measure("software")
    command: str = measure("what was run")
    time: str = measure("when, UTC")
    seconds: dict[str, float] = measure("wall-clock time of each step", unit="seconds")
    notes: list[str] = measure("what was left out or could not be decided, and why")


def stamped(record: Callable[..., T], /, **known: Any) -> T:
    """A record of where numbers come from: what is known, and versions, command and time."""
    time = datetime.now(UTC).isoformat(timespec="seconds")
    return record(**known, versions=versions(), command=command(), time=time)


def provenance(**known: Any) -> Provenance:
    """That of an audit; what is not given is None, or empty."""
    return stamped(Provenance, **{"notes": [], **known})


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that numbers depend on."""
    return {"python": platform.python_version()} | {p: version(p) for p in PACKAGES}


def command() -> str:
    """The command line of this process, as a shell takes it."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def shown(source: Provenance) -> list[Any]:
    """The blocks of a report's source."""
    spectra = "spectra and ranks in float64"
    ran = f"the model ran in {source.compute_dtype}; " if source.compute_dtype else ""
    terms: list[tuple[str, list[Piece]]] = [
        ("Model", [Verbatim(source.model, most=LONG)]),
        ("Head, SHA-256", [Verbatim(source.head_sha256, code=True)]),
        ("Stored as", [Verbatim(source.head_dtype), f"; {ran}{spectra}"]),
        ("Computed on", [Verbatim(computed_on(source))]),
    ]
    text = tokens = ""
    if source.text is not None:
        text = f", text {source.text}"
        terms.append(("Text", [Verbatim(source.text, most=LONG)]))
        terms.append(("Text, SHA-256", [Verbatim(source.text_sha256 or "", code=True)]))
    if source.num_tokens is not None:
        tokens = f", {source.num_tokens:,} tokens"
        terms.append(("Predictions", [f"{number(source.num_tokens)} tokens"]))
    terms.append(("Seed", [str(source.seed)]))
    closing = (
        f"head {source.head_sha256[:12]} ({source.head_dtype}){text}{tokens}, seed {source.seed}"
    )
    return sourced(source, terms, closing)


def computed_on(source: Any) -> str:
    """The device; with a map, how many modules it put where."""
    if source.device_map is None:
        return source.device
    counts = Counter(source.device_map.values())
    return ", ".join(f"{number(n)} modules on {where}" for where, n in sorted(counts.items()))


def sourced(source: Any, terms: Sequence[tuple[str, Sequence[Piece]]], closing: str) -> list[Any]:
    """The section on where numbers come from, and the last lines of the terminal.

    Args:
        source: what has a command, time, versions, seconds and notes.
        terms: what else it has, by name.
        closing: the terminal's last line, without the seconds.
    """
    versions = ", ".join(f"{name} {release}" for name, release in source.versions.items())
    seconds = ", ".join(f"{step} {number(spent)}" for step, spent in source.seconds.items())
    common: list[tuple[str, list[Piece]]] = [
        ("Command", [Verbatim(source.command, code=True, most=LONG)]),
        ("When", [source.time]),
        ("Software", [Verbatim(versions)]),
        ("Seconds", [Verbatim(seconds, most=LONG)]),
    ]
    notes = [note(Verbatim(one, most=LONG)) for one in source.notes]
    return [
        Heading("Provenance", "provenance", "Provenance"),
        Terms([*terms, *common]),
        *([Heading("Notes", level=3)] if notes else []),
        *notes,
        *(line(f"Note: {one}") for one in source.notes),
        line(f"{closing}, {sum(source.seconds.values()):,.0f} s", style="dim"),
    ]
