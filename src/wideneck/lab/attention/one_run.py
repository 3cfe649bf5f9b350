"""The attention section of the audit on the windows of one seed.

Cost at the small scale: for 270 heads of width 64 some two minutes a seed on two cores, most of it
the scan for the critical N; 1 GB with the default model.
"""

from dataclasses import dataclass

from wideneck.audits.attention.results import AttentionAudit
from wideneck.audits.attention.settings import AttentionSettings
from wideneck.audits.measure import measure
from wideneck.audits.states import Progress
from wideneck.data import Text
from wideneck.entry.audit import audit
from wideneck.models import LoadedModel


@dataclass(frozen=True, kw_only=True)
class Run:
    """All heads on the windows of one seed."""

    seed: int = measure("decides the windows, the random sets and the random directions")
    head_sha256: str = measure("hash of the model's output layer: runs of one model agree in it")
    seconds: float = measure("wall-clock time of the measurement", unit="seconds")
    versions: dict[str, str] = measure("software")
    audit: AttentionAudit = measure("the attention section, as `wideneck audit` reports it")


def run(
    loaded: LoadedModel, text: Text, measured: AttentionSettings, seed: int, progress: Progress
) -> Run:
    """One seed."""
    report = audit(
        loaded.model,
        text,
        "attention",
        tokenizer=loaded.tokenizer,
        attention=measured,
        seed=seed,
        progress=lambda stage, done, total: progress(f"seed {seed}: {stage}", done, total),
    )
    assert report.attention is not None
    where = report.provenance
    return Run(
        seed=seed,
        head_sha256=where.head_sha256,
        seconds=round(sum(where.seconds.values()), 1),
        versions=where.versions,
        audit=report.attention,
    )
