"""Questions to prompts, and each prompt to two rows of training (Wan et al. 2023, appendix A.1).

Every question gives 4 templates x 2 diagonals x 2 orders = 16 prompts, 32 rows.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from wideneck.memory.ambiguous.templates import TEMPLATES
from wideneck.memory.ambiguous.words import Kind, Question

PRONOUNS = frozenset({"he", "she", "his", "her"})
"""They follow no article, so a diagonal with one of them is left out."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A sentence whose next word is as likely one of its two words as the other."""

    text: str
    words: tuple[str, str]
    """The diagonal (x, y) as the question has it; `text` names x first or y first."""
    kind: Kind

    @property
    def rows(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Text and label of the two rows: x, then y."""
        return (self.text, self.words[0]), (self.text, self.words[1])


def make_prompts(questions: Iterable[Question]) -> list[Prompt]:
    """The prompts of each question by template, diagonal and order, x first before y first."""
    return [
        Prompt(template.format(x=first, y=second), (x, y), question.kind)
        for question in questions
        for template in TEMPLATES[question.kind]
        for x, y in question.diagonals
        if PRONOUNS.isdisjoint((x, y))
        for first, second in ((x, y), (y, x))
    ]
