"""Facts of texts, and which stand in their sources, on texts whose facts can be counted by eye."""

import pytest

from wideneck.lab.tasks.data_to_text import table_pairs
from wideneck.lab.tasks.measures import novelty
from wideneck.lab.tasks.precision import facts, names_in, precision


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Return the sum.", []),
        ("Return the Fourier sum of 3 values.", ["Fourier", "3"]),
        ("Calls set_grad on a DataLoader. Then stops.", ["set_grad", "DataLoader"]),
        ("See torch.nn for x1.", ["torch.nn", "x1"]),
        ("Anna has 10 points.", ["10"]),
        ("They paid 1,000,000 or 1,250.5 to Bo.", ["1000000", "1250.5", "Bo"]),
        ("Of shape (1,2) or 1,20,300", ["1", "2", "1", "20", "300"]),
        ("of 12,345678", ["12", "345678"]),
        ("We saw Anna's dog, and Anna\u2019s cat.", ["Anna", "Anna"]),
        ("Often I saw it, e.g. here, i.e. there.", []),
        ('He left. "They stay." (Then) Bo came!\nThere', ["Bo"]),
        ("Takes a NumPy array, of iOS and v2.", ["NumPy", "iOS", "v2"]),
        ("In Zürich und Łódź", ["Zürich", "Łódź"]),
        ("one line of Bo\nThe next of Eve", ["Bo", "Eve"]),
        ("", []),
    ],
)
def test_facts_are_numbers_identifiers_and_names(text, found):
    assert facts(text) == found


def test_precision_is_the_share_of_facts_in_the_source():
    source = "Uses torch.nn and set_grad with 3 steps"
    assert precision("It has set_grad and torch.nn.", source) == 1
    assert precision("It has set_grad in 4 steps", source) == 0.5
    assert precision("No facts here.", source) is None


def test_a_part_of_a_name_stands_in_the_source_and_a_part_of_a_number_does_not():
    assert precision("the module NN.Linear of Linear", "NN.Linear") == 1
    assert precision("about 2 or 5", "about 2.5") == 0
    assert precision("about 1000", "about 1,000 men") == 1
    assert precision("about 1,000", "about 1000 men") == 1
    assert precision("about 000", "about 1,000 men") == 0


def test_a_name_is_known_where_it_begins_a_sentence():
    texts = ["We met Anna and Bo. The men saw Anna.", "Bo left the house; The House I", "the house"]
    names = names_in(texts)
    assert names == {"Anna", "Bo"}
    assert facts("Anna has 10 points. The house. Eve left.", names) == ["Anna", "10"]
    assert precision("Anna left.", texts[0], names) == 1
    assert precision("Anna left.", texts[1], names) == 0
    assert precision("Anna left.", texts[1]) is None


def test_true_sentences_about_tables_have_their_names_in_them():
    pairs = table_pairs(0, 40, 4, 4).train
    names = names_in(pair.source for pair in pairs)
    first = [pair for pair in pairs if pair.target.split()[0] in names]
    assert len(first) > 5
    assert {precision(pair.target.split()[0], pair.source, names) for pair in first} == {1}
    others = [pair.source for pair in pairs if pair.table != first[0].table]
    assert {precision(first[0].target.split()[0], source, names) for source in others} == {0}


SOURCES = [
    "The council of Oslo met on 3 May, and Berg spoke of set_price.",
    "A train from Paris to Lyon was 20 minutes late, said Durand.",
    "On 1,200 farms around Kyoto the rice of Sato failed.",
]


def test_a_copied_source_is_precise_and_not_new_and_that_of_another_neither():
    for source in SOURCES:
        assert precision(source, source) == 1
        assert [novelty(source, source, n) for n in (1, 2, 3, 4)] == [0] * 4
    for text, source in zip(SOURCES, SOURCES[1:] + SOURCES[:1], strict=True):
        assert precision(text, source) < 0.2
        assert novelty(text, source, 2) > 0.9
