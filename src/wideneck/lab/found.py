"""What every reproduction says of itself."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from wideneck.audits.measure import measure
from wideneck.report.fields import definitions
from wideneck.report.provenance import command


@dataclass(frozen=True, kw_only=True)
class Found:
    """What `wideneck reproduce PAPER` finds."""

    command: str = measure("what was run")
    time: str = measure("when, UTC")

    def to_dict(self) -> dict[str, Any]:
        """Nested dicts, with the definition of every number."""
        said = {name: entry for name, entry in definitions(type(self)).items() if entry}
        return asdict(self) | {"definitions": said}


def made_now() -> dict[str, str]:
    """The fields of `Found` for what this command makes."""
    return {"command": command(), "time": datetime.now(UTC).isoformat(timespec="seconds")}
