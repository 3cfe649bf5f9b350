"""A module with one error, and the errors that no test can or should tell (equivalent.toml)."""

import difflib
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mutant:
    """One change of one module."""

    module: str
    """From src/wideneck on."""
    source: str
    changed: str
    """All of the module's text, before and after."""

    @property
    def was(self) -> str:
        """The lines that are changed, with single spaces and no indentation."""
        return self._lines("-")

    @property
    def becomes(self) -> str:
        return self._lines("+")

    @property
    def line(self) -> int:
        """The first line that differs, counted from 1."""
        pairs = zip(self.source.split("\n"), self.changed.split("\n"), strict=False)
        return next(n for n, (before, after) in enumerate(pairs, 1) if before != after)

    def diff(self, context: int = 2) -> str:
        before, after = self.source.split("\n"), self.changed.split("\n")
        return "\n".join(
            difflib.unified_diff(before, after, self.module, self.module, n=context, lineterm="")
        )

    def _lines(self, sign: str) -> str:
        changes = self.diff(context=0).split("\n")[3:]
        return "\n".join(" ".join(line[1:].split()) for line in changes if line[0] == sign)


def equivalent() -> dict[tuple[str, str], str]:
    """(The line as it is, as it becomes) -> the reason, for every mutant that is listed."""
    reasons = tomllib.loads((Path(__file__).parent / "equivalent.toml").read_text())
    error = re.compile(r"\{([^{}]+) => ([^{}]+)\}")
    return {
        (error.sub(r"\1", line), error.sub(r"\2", line)): reason
        for reason, lines in reasons.items()
        for line in lines.split("\n")
    }
