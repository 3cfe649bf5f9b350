"""A comparison as a document."""

from dataclasses import dataclass

from wideneck.audits.measure import measure
from wideneck.evaluation.comparison.page import beside, group, models, source
from wideneck.evaluation.comparison.results import Difference, GroupDifference, OneModel, Source
from wideneck.evaluation.comparison.words import opening
from wideneck.report.document import Document
from wideneck.report.parts import Page
from wideneck.report.reference import Reference

HEADINGS = {
    "models": "Models",
    "differences": "Differences",
    "groups": "Groups",
    "source": "Provenance",
}


@dataclass(frozen=True, kw_only=True)
class Comparison(Document):
    """Models on one text."""

    source: Source = measure("where the numbers come from")
    models: list[OneModel] = measure("each by itself, in the order in which they were named")
    differences: list[Difference] = measure(
        "each model but the first beside the first; empty where groups are compared"
    )
    groups: list[GroupDifference] = measure(
        "each group but the first beside the first; empty where models are compared"
    )

    def page(self, reference: Reference) -> Page:
        """The differences in words, then each by kind of token, then the models by themselves."""
        first = self.models[0].model
        title = f"{len(self.models)} models on one text"
        if len(self.differences) == 1:
            title = f"{self.differences[0].model} beside {first}"
        return Page(
            kicker="wideneck compare",
            title=title,
            opening=list(opening(first, self.differences, self.groups)),
            sections=[
                *(list(beside(one, i)) for i, one in enumerate(self.differences, 2)),
                *(list(group(one, i, reference)) for i, one in enumerate(self.groups, 2)),
                list(models(self.models)),
            ],
            source=source(self.source),
            headings=HEADINGS,
        )
