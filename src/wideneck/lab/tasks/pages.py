"""The page of a task as data: its own tables, then those that all tasks have."""

from typing import Any

from wideneck.lab.published import prose


def words(task: str) -> dict[str, Any]:
    """What `wideneck.lab.found` makes a page of."""
    says = prose("tasks")
    told = says[task]
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
        {"heading": ["Texts", "texts", "Texts"], "blocks": told["tables"]},
        {"heading": ["Differences", "differences", "Differences"], "blocks": differences},
        {"heading": ["What differs and why", "why", "Why"], "blocks": says["why"]},
        {"heading": ["The paper's signs", "signs", "Signs"], "blocks": signs},
    ]
    return says | {"sections": sections}
