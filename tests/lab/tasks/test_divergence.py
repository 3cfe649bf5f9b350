"""MAUVE of embeddings, where mauve-text is installed; what is refused, everywhere."""

import sys

import pytest
from small_judges import classifier, encoder, random_texts, saved

from wideneck.errors import WideneckError
from wideneck.lab.tasks import measuring
from wideneck.lab.tasks.divergence import DEFINITION, FEWEST, mauve
from wideneck.lab.tasks.judges import load_judge
from wideneck.lab.tasks.measuring import MAUVE, definitions_of, judged
from wideneck.lab.tasks.trial import Measured

TEXTS = random_texts(0, *[3, 5, 8, 4] * 15)


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    return load_judge(saved(encoder(), tmp_path_factory.mktemp("encoder")))


# faiss registers classes of SWIG without modules.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_texts_are_near_themselves_and_far_from_others(judge):
    pytest.importorskip("mauve")
    assert mauve(TEXTS, TEXTS, judge) == pytest.approx(1)
    others = ["z z z", "y z y z", "z y"] * 20
    near = mauve(TEXTS, random_texts(1, *[3, 5, 8, 4] * 15), judge)
    assert mauve(TEXTS, others, judge) < 0.3 < 0.6 < near
    assert mauve(TEXTS, ["", *TEXTS], judge) == pytest.approx(1)


def test_a_few_texts_have_no_divergence(judge):
    pytest.importorskip("mauve")
    assert mauve(TEXTS, TEXTS[: FEWEST - 1], judge) is None
    assert mauve(["", *TEXTS[: FEWEST - 1]], TEXTS, judge) is None


def test_a_judge_with_embeddings_tells_it_beside_its_own_measures(judge, monkeypatch):
    def told():
        return judged(judge, Measured({"a": [1.0]}, {"b": 2.0}), ["a b"], ["c"], ["d"])

    monkeypatch.setattr(measuring, "find_spec", lambda name: None)
    assert MAUVE not in definitions_of(judge)
    assert told().whole == {"b": 2.0}
    monkeypatch.setattr(measuring, "find_spec", lambda name: name)
    assert definitions_of(judge) == judge.definitions | {MAUVE: DEFINITION}
    for value, whole in ((None, {}), (0.5, {"judge mauve": 0.5})):
        monkeypatch.setattr(measuring, "mauve", lambda *texts, value=value: value)
        found = told()
        assert found.whole == {"b": 2.0} | whole
        assert set(found.each) == {"a", *(f"judge {name}" for name in judge.definitions)}


def test_without_the_package_it_is_named(judge, monkeypatch):
    monkeypatch.setitem(sys.modules, "mauve", None)
    with pytest.raises(WideneckError, match=r"mauve-text: pip install 'wideneck\[tasks-mauve\]'"):
        mauve(TEXTS, TEXTS, judge)


def test_a_classifier_has_no_embeddings(tmp_path):
    judge = load_judge(saved(classifier(), tmp_path))
    with pytest.raises(WideneckError, match="this judge is a classifier"):
        mauve(TEXTS, TEXTS, judge)
