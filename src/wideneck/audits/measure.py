"""A dataclass field that carries its own definition.

Every number of an audit is a field made by `measure`.  The JSON file, the HTML report and
docs/report.md all print these strings, so a definition is written once, beside the value that it
defines; the terminal, without room for it, prints the values.
"""

from dataclasses import MISSING, field
from typing import Any


def measure(definition: str, *, unit: str = "", caution: str = "", default: Any = MISSING) -> Any:
    """A field with what it is, its unit, and what it does not say.

    Args:
        definition: what the number is, with its formula in plain text.
        unit: "nats", "tokens", ...; empty for a pure number.
        caution: what a reader may be tempted to conclude and should not.
        default: as for `dataclasses.field`.
    """
    metadata = {"definition": definition, "unit": unit, "caution": caution}
    return field(default=default, metadata=metadata)
