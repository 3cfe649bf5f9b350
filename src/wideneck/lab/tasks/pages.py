"""The page of a task as data: its own tables, then those that all tasks have."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from wideneck.lab.published import prose
from wideneck.lab.tasks.measuring import JUDGE

MISMATCHED = " mismatched"
"""Behind the name of a judge's measure: with the source of another text."""


def words(task: str, judged: Mapping[str, str]) -> dict[str, Any]:
    """What `wideneck.lab.found` makes a page of.

    Args:
        task: one of them.
        judged: measures of a judge that the user has named, and what each is.
    """
    says = prose("tasks")
    told = says[task]
    tables, reading = list(told["tables"]), list(says["reading"])
    if judged:
        tables += _judged(judged, says["judged"])
        meant = " ".join(f"{name.capitalize()}: {what}" for name, what in judged.items())
        reading.append(meant.replace("{", "{{").replace("}", "}}"))
    differences = [
        {
            "part": figure,
            "caption": f"Difference of {name}",
            "fields": "differences[]",
            "columns": says["difference"],
        }
        for name, figure, _ in told["compared"]
    ]
    signs = [
        {"part": data, "caption": f"{data}: {says['of_signs']}", **says["signs"]}
        for data in told["published"]
    ]
    sections = [
        {"heading": ["Texts", "texts", "Texts"], "blocks": tables},
        {"heading": ["Differences", "differences", "Differences"], "blocks": differences},
        {"heading": ["What differs and why", "why", "Why"], "blocks": says["why"]},
        {"heading": ["The paper's signs", "signs", "Signs"], "blocks": signs},
    ]
    return says | {"sections": sections, "reading": reading}


def _judged(names: Collection[str], says: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What a judge says, and below it what it says of texts with the sources of others."""
    own = [name for name in names if not name.endswith(MISMATCHED)]
    others = [name for name in own if f"{name}{MISMATCHED}" in names]
    both = ((own, ""), (others, MISMATCHED))
    for caption, (heads, behind) in zip(says["captions"], both, strict=True):
        columns = [[head, f"{{{JUDGE}{head}{behind}:.3f ± }}"] for head in heads]
        yield says["table"] | {"caption": caption, "columns": [["", "{label}"], *columns]}
