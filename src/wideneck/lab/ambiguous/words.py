"""The words of the task, Google's analogy questions, and the prompts that they are set into.

The questions are those of Mikolov et al. 2013 (arXiv:1301.3781).  A line `Athens Greece Baghdad
Iraq` asks what is to Baghdad as Greece is to Athens; a line `: family` starts a section.  Four
sections are used (Wan et al. 2023, appendix A.1).  Nothing is downloaded: the wheel of gensim holds
the file, and is looked into without being imported.

Every question gives 4 templates x 2 diagonals x 2 orders = 16 prompts, 32 rows of training.  The
wording of the templates is ours, the shapes are the paper's (section 5.1): sentences about people
end with the article, those about places with the bare slot, and one starts with the slot itself,
where a tokenizer may see the word without its space.  One of the paper's about places speaks of an
uncle; ours hold no word of the analogies, so that what a split keeps out of training stays out.
Every slot stands between spaces.
"""

import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from wideneck.errors import WideneckError
from wideneck.files.text_file import read_text_file

Kind = Literal["people", "location"]

SECTIONS: dict[str, Kind] = {
    "family": "people",
    "capital-common-countries": "location",
    "capital-world": "location",
    "city-in-state": "location",
}
"""The sections that the task uses, in its order, and which templates their words go into."""

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

PLACE = Path("test", "test_data", "questions-words.txt")
"""Where the file is inside the package gensim."""


class Question(NamedTuple):
    """a is to b as c is to d."""

    kind: Kind
    a: str
    b: str
    c: str
    d: str

    @property
    def pairs(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """The related words (a, b) and (c, d): what a split takes apart."""
        return (self.a, self.b), (self.c, self.d)

    @property
    def diagonals(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """The unrelated words (a, d) and (b, c): what a prompt names."""
        return (self.a, self.d), (self.b, self.c)


class Prompt(NamedTuple):
    """A sentence whose next word is as likely one of its two words as the other."""

    text: str
    words: tuple[str, str]
    """The diagonal (x, y) as the question has it; `text` names x first or y first."""


Analogies = dict[str, list[Question]]
"""Section -> its questions, for every one of `SECTIONS` and in their order."""


def read_analogies(path: str | os.PathLike | None = None) -> Analogies:
    """The four sections from a file, plain or gzipped, or else from the installed gensim.

    Raises:
        WideneckError: as `read_text_file`; or it is not the analogies; says which line.
    """
    path = _gensim_file() if path is None else Path(path)
    sections: Analogies = {}
    questions: list[Question] | None = None  # None before the first header
    kind: Kind | None = None  # None within a section that is not used
    content = read_text_file(path, "analogy file")
    if not content.strip():
        raise WideneckError(f"{path} is empty; give Google's questions-words.txt.")
    for number, line in enumerate(content.split("\n"), start=1):
        words = line.split()
        if not words:
            continue
        if words[0].startswith(":"):
            name = line.strip().removeprefix(":").strip()
            if name in sections:
                raise WideneckError(
                    f"Line {number} of {path} starts the section {name} a second time; give a "
                    "file that has each section once."
                )
            questions, kind = [], SECTIONS.get(name)
            if kind is not None:
                sections[name] = questions
        elif questions is None:
            raise WideneckError(
                f"Line {number} of {path} stands before any section (a line such as ': family'), "
                "so it is not Google's analogy file; give questions-words.txt."
            )
        elif kind is not None:
            if len(words) != 4:
                raise WideneckError(
                    f"Line {number} of {path} has {len(words)} words, and an analogy has four; "
                    "mend or remove it."
                )
            questions.append(Question(kind, *words))
    missing = [name for name in SECTIONS if not sections.get(name)]
    if missing:
        raise WideneckError(
            f"{path} has no question in the section {missing[0]}, and the task needs "
            f"{', '.join(SECTIONS)}; give the whole questions-words.txt."
        )
    return {name: sections[name] for name in SECTIONS}


def _gensim_file() -> Path:
    spec = importlib.util.find_spec("gensim")  # of a top-level name: nothing is imported
    folders = None if spec is None else spec.submodule_search_locations
    for folder in folders or ():
        if (Path(folder) / PLACE).is_file():
            return Path(folder) / PLACE
    raise WideneckError(
        "The words of the ambiguous-template task are in Google's questions-words.txt, which is "
        "not here: give its path, or install a package that holds it "
        "(pip install --no-deps gensim)."
    )


def make_prompts(questions: Iterable[Question]) -> list[Prompt]:
    """The prompts of each question by template, diagonal and order, x first before y first."""
    return [
        Prompt(template.format(x=first, y=second), (x, y))
        for question in questions
        for template in TEMPLATES[question.kind]
        for x, y in question.diagonals
        if PRONOUNS.isdisjoint((x, y))
        for first, second in ((x, y), (y, x))
    ]
