"""The checker of sentences about tables: true ones pass, and every kind of falsehood fails."""

import random
import re
from itertools import combinations

import pytest

from wideneck.lab.tasks.data_to_text import names_of, table_pairs
from wideneck.lab.tasks.statements import KINDS, Judged, judge, sentence
from wideneck.lab.tasks.tables import DOMAINS, Row, Table, all_names, tables

CLUBS = next(domain for domain in DOMAINS if domain.things == "clubs")
TABLE = Table(
    CLUBS,
    (
        Row("Anna", "Ost", (10, 3)),
        Row("Berta", "West", (25, 1)),
        Row("Cora", "Ost", (7, 60)),
        Row("Dora", "Ost", (40, 2)),
    ),
)
TRUE = [
    "Anna has 10 points.",
    "Berta has 15 more points than Anna.",
    "Cora has 3 fewer points than Anna.",
    "Cora has more players than Dora.",
    "Cora has fewer points than Dora.",
    "Dora has the most points.",
    "Berta has the fewest players.",
    "The number of clubs with more than 10 points is 2.",
    "The number of clubs with more than 60 players is 0.",
    "The number of clubs from Ost is 3.",
    "The clubs from Ost have 57 points together.",
    "All clubs have 82 points.",
]
FALSE = {
    "wrong number": ["Anna has 11 points.", "Berta has 14 more points than Anna."],
    "number of the other measure": ["Anna has 3 points.", "All clubs have 66 points."],
    "wrong name": ["Berta has 10 points.", "Anna has the most points."],
    "name that is not there": ["Emma has 10 points.", "Emma has more points than Anna."],
    "more for fewer": ["Berta has 15 fewer points than Anna.", "Cora has more points than Dora."],
    "most for fewest": ["Dora has the fewest points.", "Berta has the most players."],
    "sides exchanged": ["Anna has 15 more points than Berta.", "Dora has more players than Cora."],
    "no difference": ["Anna has 0 more points than Anna.", "Anna has more points than Anna."],
    "other measure": ["Anna has 10 players.", "Anna has 10 horses.", "Dora has the most players."],
    "wrong count": [
        "The number of clubs with more than 10 points is 3.",
        "The number of clubs from Ost is 2.",
        "The number of clubs from West is 3.",
    ],
    "group that is not there": ["The number of clubs from Nord is 0."],
    "wrong sum": ["The clubs from Ost have 58 points together.", "All clubs have 57 points."],
    "other things": ["All towns have 82 points.", "The number of towns from Ost is 3."],
    "other preposition": ["The number of clubs in Ost is 3."],
}
BROKEN = [
    "",
    "Anna has 10 points",
    "anna has 10 points.",
    "Anna has ten points.",
    "Anna has 10 points. Anna has 10 points.",
    "Anna has many points.",
    "Anna has 10 points than Berta.",
]


@pytest.mark.parametrize("text", TRUE)
def test_true_sentences_pass(text):
    assert judge(text, TABLE).true


@pytest.mark.parametrize("text", [text for some in FALSE.values() for text in some])
def test_falsehoods_are_well_formed_and_fail(text):
    found = judge(text, TABLE)
    assert found.kind is not None
    assert not found.true


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_no_sentence_of_a_kind_is_neither(text):
    assert judge(text, TABLE) == Judged(None, False)


def some_tables(number: int) -> list[Table]:
    made = tables(random.Random(0), iter(all_names(0)))
    return [next(made) for _ in range(number)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_sentence_that_is_made_is_true_and_of_one_kind(kind):
    rng = random.Random(1)
    for table in some_tables(60):
        for measure in table.domain.measures:
            text = sentence(table, kind, measure, rng)
            assert judge(text, table) == Judged(kind.name, True), text
            assert sum(other.pattern().fullmatch(text) is not None for other in KINDS) == 1


def changed(text: str, table: Table, rng: random.Random) -> list[str]:
    """The sentence with one of its facts changed, in every way that makes it false."""
    found = [
        text[: match.start()] + str(int(match[0]) + rng.choice((1, 2, 5))) + text[match.end() :]
        for match in list(re.finditer(r"\d+", text))[-1:]  # a limit may move and hold
    ]
    for one, other in (("more", "fewer"), ("most", "fewest")):
        for old, new in ((one, other), (other, one)):
            if f" {old} " in text and "with more" not in text:
                found.append(text.replace(f" {old} ", f" {new} "))
    for name in names_of(table):
        if name in text:
            found.append(text.replace(name, "Qqqq"))
    found.append(text.replace(table.domain.things, "things"))
    return [new for new in found if new != text]


def test_a_changed_fact_makes_a_sentence_false():
    rng = random.Random(2)
    tried = 0
    for table in some_tables(80):
        for kind in KINDS:
            text = sentence(table, kind, rng.choice(table.domain.measures), rng)
            for new in changed(text, table, rng):
                tried += 1
                assert not judge(new, table).true, (text, new)
    assert tried > 1000


def test_splits_share_no_name_and_references_are_true():
    pairs = table_pairs(3, train=400, valid=80, test=80)
    assert (len(pairs.train), len(pairs.valid), len(pairs.test)) == (400, 80, 80)
    names = []
    for split in (pairs.train, pairs.valid, pairs.test):
        assert all(judge(pair.target, pair.table).true for pair in split)
        names.append({name for pair in split for name in names_of(pair.table)})
    assert all(not one & other for one, other in combinations(names, 2))


def test_the_source_says_all_that_the_sentence_needs():
    for pair in table_pairs(4, train=40, valid=4, test=4).train:
        for word in re.findall(r"[A-Z][a-z]+", pair.target):
            assert word in ("The", "All") or f" {word} " in pair.source
        assert {str(n) for row in pair.table.rows for n in row.numbers} <= set(pair.source.split())


def test_ranks_and_sums_of_the_text():
    text = TABLE.text()
    assert "| Anna from Ost | points 10 rank 3 | players 3 rank 2 |" in text
    assert text.endswith("all points 82 | all players 66")


def test_the_same_seed_makes_the_same_pairs():
    first, again, other = (table_pairs(seed, 50, 5, 5) for seed in (7, 7, 8))
    assert first == again
    assert first.sha256 == again.sha256 != other.sha256
