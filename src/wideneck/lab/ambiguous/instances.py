"""Questions to prompts, and each prompt to two rows of training (Wan et al. 2023, appendix A.1).

Every question gives 4 templates x 2 diagonals x 2 orders = 16 prompts, 32 rows.

The wording of the templates is ours, the shapes are the paper's (section 5.1): sentences about
people end with the article, those about places with the bare slot, and one starts with the slot
itself, where a tokenizer may see the word without its space.  One of the paper's about places
speaks of an uncle; ours hold no word of the analogies, so that what a split keeps out of training
stays out.  Every slot stands between spaces.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from wideneck.lab.ambiguous.words import Kind, Question

TEMPLATES: dict[Kind, tuple[str, ...]] = {
    "people": (
        "With only a minute left I had to pick the {x} or the {y} and so I first spoke to the",
        "Everyone in the village adores the {x} and the {y} but they are fondest of the",
        "The {x} and the {y} share a small flat and last winter a thief robbed the",
        "We are putting up the {x} and the {y} for a week and have to cook separately for the",
    ),
    "location": (
        "After a long stay in {x} and {y} I know that I would rather live in",
        "{x} and {y} are the places I like most and the one I dream about is",
        "A neighbour of mine used to live in {x} and {y} and is now selling the old house in",
        "The two stops of our tour are {x} and {y} and the plane takes us first to",
    ),
}
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
