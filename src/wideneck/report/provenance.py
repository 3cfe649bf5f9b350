"""Where the numbers of a report come from."""

import platform
import shlex
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from wideneck.audits.measure import measure

PACKAGES = ("wideneck", "torch", "transformers", "numpy", "scipy")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Model, text, software and command."""

    model: str = measure("what was audited, as it was named")
    head_sha256: str = measure("hash of the output layer's stored bytes")
    head_dtype: str = measure("storage type of the output layer")
    compute_dtype: str | None = measure(
        "type in which the model ran; none if it did not. From its hidden states on, losses are "
        "float32, spectra and ranks float64"
    )
    text: str | None = measure("the text; none for weights alone")
    text_sha256: str | None = measure("hash of the text's documents")
    num_tokens: int | None = measure("predictions made on the text", unit="tokens")
    seed: int = measure("of the choice of windows and of the Gaussian null")
    versions: dict[str, str] = measure("software")
    command: str = measure("what was run")
    time: str = measure("when, UTC")
    seconds: dict[str, float] = measure("wall-clock time of each step", unit="seconds")
    notes: list[str] = measure("what was left out or could not be decided, and why")


def provenance(
    *,
    model: str,
    head_sha256: str,
    head_dtype: str,
    seed: int,
    seconds: dict[str, float],
    compute_dtype: str | None = None,
    text: str | None = None,
    text_sha256: str | None = None,
    num_tokens: int | None = None,
    notes: list[str] | None = None,
) -> Provenance:
    """Add versions, command and time to what the audit knows."""
    return Provenance(
        model=model,
        head_sha256=head_sha256,
        head_dtype=head_dtype,
        compute_dtype=compute_dtype,
        text=text,
        text_sha256=text_sha256,
        num_tokens=num_tokens,
        seed=seed,
        versions=versions(),
        command=command(),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=seconds,
        notes=notes or [],
    )


def versions() -> dict[str, str]:
    """Of Python and of the packages that numbers depend on."""
    return {"python": platform.python_version()} | {p: version(p) for p in PACKAGES}


def command() -> str:
    """The command line of this process, as a shell takes it."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
