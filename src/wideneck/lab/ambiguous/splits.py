"""Analogies to training, validation and test.

Both splits take pairs of related words apart: a question with two training pairs is for training,
one with none is for test, one with one is for validation.

`paper_split` is the one that the sizes of HistAlign point to (Wan et al. 2023, appendix A.1;
Chang & McCallum 2022 wrote the splitter): five files, each split by itself, where the fifth
repeats the three of places, so that a third of the test prompts are in training, word for word.
`leak_free_split` is ours: no word of a test question is in a training question.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, fields

from wideneck.errors import WideneckError
from wideneck.lab.ambiguous.words import SECTIONS, Analogies, Question

Pair = tuple[str, str]


@dataclass(frozen=True)
class Split:
    """The questions of each part, in the order of the files.  No part is empty."""

    train: list[Question]
    validation: list[Question]
    test: list[Question]

    def __post_init__(self):
        for part in fields(self):
            if not getattr(self, part.name):
                raise WideneckError(
                    f"These analogies leave no question for {part.name}; a split needs more of "
                    "them, with pairs that share no word."
                )


def paper_split(analogies: Analogies, seed: int = 0) -> Split:
    """The split of the paper, leaks included; the paper's own seed is unknown.

    Of the n distinct pairs of each file, shuffled, the first floor(n / 2) are training pairs.
    """
    rng = random.Random(seed)
    places = [name for name, kind in SECTIONS.items() if kind == "location"]
    files = [*analogies.values(), [q for name in places for q in analogies[name]]]
    parts: tuple[list[Question], ...] = ([], [], [])
    for questions in files:
        pairs = list(_pairs(questions))
        rng.shuffle(pairs)
        taken = _take(questions, set(pairs[: len(pairs) // 2]))
        for part, some in zip(parts, taken, strict=True):
            part += some
    return Split(*parts)


def leak_free_split(analogies: Analogies, seed: int = 0) -> Split:
    """One split of all questions, each once, in which no test word occurs in training.

    What is dealt to the two sides are connected components of pairs that share a word (all cities
    of a state are one): the larger first, those of equal size in a random order, each to the side
    that has fewer questions of its sections so far, and by a coin where that is even.  A question
    counts once for each of its pairs, so equal counts mean as many questions for training as for
    test.  Large components are dealt to opposite sides under every seed: in Google's file the 18
    cities of Arizona and California face the 10 of Texas.
    """
    rng = random.Random(seed)
    sections: dict[Question, str] = {}
    for name, questions in analogies.items():
        for question in questions:
            sections.setdefault(question, name)
    # Questions that each pair is part of, by section: what a pair weighs.
    weight: dict[Pair, Counter[str]] = {pair: Counter() for pair in _pairs(sections)}
    for question, name in sections.items():
        for pair in question.pairs:
            weight[pair][name] += 1

    components = _components(weight)
    rng.shuffle(components)
    components.sort(key=len, reverse=True)
    train: set[Pair] = set()
    surplus: Counter[str] = Counter()  # of training over test, by section
    for component in components:
        total = sum((weight[pair] for pair in component), Counter())
        tilt = sum(surplus[name] * num for name, num in total.items())
        to_train = tilt < 0 if tilt else rng.random() < 0.5
        if to_train:
            train.update(component)
            surplus.update(total)
        else:
            surplus.subtract(total)
    return Split(*_take(sections, train))


SPLITS: dict[str, Callable[[Analogies, int], Split]] = {
    "leak-free": leak_free_split,
    "paper": paper_split,
}
"""Every split there is, the default first."""


def _pairs(questions: Iterable[Question]) -> dict[Pair, None]:
    """Distinct pairs in order of occurrence (a set would have none)."""
    return dict.fromkeys(pair for question in questions for pair in question.pairs)


def _take(questions: Iterable[Question], train: Set[Pair]) -> tuple[list[Question], ...]:
    """Training, validation, test: by how many pairs of a question are training pairs."""
    parts: tuple[list[Question], ...] = ([], [], [])
    for question in questions:
        parts[2 - sum(pair in train for pair in question.pairs)].append(question)
    return parts


def _components(pairs: Iterable[Pair]) -> list[list[Pair]]:
    """Pairs grouped so that no word is in two groups, in order of occurrence."""
    groups: dict[str, list[Pair]] = {}  # word -> its group, the same list for all its words
    for pair in pairs:
        first, second = (groups.setdefault(word, []) for word in pair)
        if first is not second:
            first += second
            groups.update((word, first) for joined in second for word in joined)
            groups[pair[1]] = first
        first.append(pair)
    return list({id(group): group for group in groups.values()}.values())
