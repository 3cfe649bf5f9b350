"""How large a split is, and how much of its test has been seen: the leak of Wan et al. (2023).

A test prompt is seen when its whole text occurs in training; a test word pair when its two words
occur together in one prompt there, in either order; a test word when it is one of the two words
of any training prompt.
"""

from collections.abc import Collection, Iterable, Set
from dataclasses import dataclass

from wideneck.lab.ambiguous.splits import Split
from wideneck.lab.ambiguous.words import Prompt, Question, make_prompts


@dataclass(frozen=True, kw_only=True)
class PartCounts:
    """Sizes of one part."""

    questions: int
    prompts: int
    """As they are trained and tested on, repeated ones included."""
    rows: int
    """Two a prompt; what the paper counts."""
    distinct_prompts: int


@dataclass(frozen=True, kw_only=True)
class TaskCounts:
    """Sizes of all parts, and shares between 0 and 1; NaN where the test has no prompt."""

    train: PartCounts
    validation: PartCounts
    test: PartCounts
    test_prompts_in_train: float
    """Share of test prompts, repeated ones included, whose text occurs in training."""
    test_word_pairs_in_train: float
    """Share of the distinct word pairs of the test that are a word pair of training."""
    test_word_pairs_in_train_or_validation: float
    """The same, of training or validation."""
    test_words_in_train: float
    """Share of the distinct words of the test that are words of training."""


def count(split: Split) -> TaskCounts:
    """Sizes and leaks of a split, from its prompts.  A second for the whole analogy file."""
    train, validation, test = map(make_prompts, (split.train, split.validation, split.test))
    pairs = [_word_pairs(prompts) for prompts in (train, validation, test)]
    return TaskCounts(
        train=_part(split.train, train),
        validation=_part(split.validation, validation),
        test=_part(split.test, test),
        test_prompts_in_train=_share([p.text for p in test], {p.text for p in train}),
        test_word_pairs_in_train=_share(pairs[2], pairs[0]),
        test_word_pairs_in_train_or_validation=_share(pairs[2], pairs[0] | pairs[1]),
        test_words_in_train=_share(_words(test), _words(train)),
    )


def _part(questions: list[Question], prompts: list[Prompt]) -> PartCounts:
    return PartCounts(
        questions=len(questions),
        prompts=len(prompts),
        rows=2 * len(prompts),
        distinct_prompts=len({prompt.text for prompt in prompts}),
    )


def _word_pairs(prompts: Iterable[Prompt]) -> set[frozenset[str]]:
    return {frozenset(prompt.words) for prompt in prompts}


def _words(prompts: Iterable[Prompt]) -> set[str]:
    return {word for prompt in prompts for word in prompt.words}


def _share(wanted: Collection, seen: Set) -> float:
    return sum(one in seen for one in wanted) / len(wanted) if wanted else float("nan")
