"""The definitions of a report's fields as a reference list that tables can point into.

One field of one class appears once, however many places hold it: `kl_sigma2` of the raw, the
centred and the Gaussian spectrum share an entry and an anchor.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wideneck.report.fields import definitions

LOWER = re.compile(r"(?!(?:log|exp|sqrt|nll|tanh)\b)(?:a |[a-z]{2,}(?![\w(^]))")
"""A word that may be capitalised: not a symbol, a function or a field's name."""


@dataclass(frozen=True)
class Entry:
    """One definition."""

    anchor: str
    name: str
    places: list[str]
    definition: str
    unit: str
    caution: str


class Reference:
    """The fields that a report holds, by path and in order."""

    def __init__(self, report: Any):
        self._entries: dict[tuple[str, str], Entry] = {}
        self._by_path: dict[str, Entry] = {}
        for path, found in definitions(type(report)).items():
            if "definition" not in found or not _holds(report, path.split(".")):
                continue
            name = path.rpartition(".")[2]
            key = (name, found["definition"])
            if key not in self._entries:
                self._entries[key] = Entry(
                    anchor="def-" + re.sub(r"\W+", "-", path).strip("-"),
                    name=name,
                    places=[],
                    definition=sentence(found["definition"]),
                    unit=found.get("unit", ""),
                    caution=sentence(found.get("caution", "")),
                )
            entry = self._by_path[path] = self._entries[key]
            place = _place(path)
            if place not in entry.places:
                entry.places.append(place)

    def __getitem__(self, path: str) -> Entry:
        """The entry of a path such as `head.spectrum.raw.kl_sigma2`."""
        return self._by_path[path]

    def __contains__(self, path: str) -> bool:
        return path in self._by_path

    def groups(self, headings: Mapping[str, str]) -> dict[str, list[Entry]]:
        """Every entry under the heading of the longest prefix of its path, in their order."""
        found: dict[str, list[Entry]] = {heading: [] for heading in headings.values()}
        for path, entry in self._by_path.items():
            prefixes = [prefix for prefix in headings if _under(path, prefix)]
            group = found.setdefault(headings[max(prefixes, key=len)] if prefixes else "More", [])
            if not any(entry in entries for entries in found.values()):
                group.append(entry)
        return {heading: entries for heading, entries in found.items() if entries}


def sentence(fragment: str) -> str:
    """A definition as a sentence: capital letter (unless it opens with a symbol), full stop."""
    if not fragment:
        return ""
    first = fragment[0].upper() if LOWER.match(fragment) else fragment[0]
    return first + fragment[1:] + ("" if fragment[-1] in ".!?" else ".")


def _under(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith((prefix + ".", prefix + "["))


def _place(path: str) -> str:
    """The path, with a star for the sibling spectra that share a field."""
    return re.sub(r"\bspectrum\.\w+\.", "spectrum.*.", path)


def _holds(value: Any, path: list[str]) -> bool:
    """True if the report reaches the field: no None and no empty list on the way."""
    for step in path:
        if isinstance(value, dict):
            value = next(iter(value.values()), None)
        if value is None:
            return False
        value = getattr(value, step.rstrip("[]"))
        for _ in range(step.count("[")):
            if not value:
                return False
            value = value[0]
    return True
