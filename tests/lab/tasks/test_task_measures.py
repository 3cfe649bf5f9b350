"""Measures of written texts on texts whose measures can be counted by hand."""

import pytest

from wideneck.lab.tasks import measures


def test_diversity_is_one_without_repeats_and_falls_with_them():
    assert measures.diversity("a b c d e".split()) == 1
    # 5 bigrams, 2 of them new; 4 trigrams, 2 new; 3 of four, 2 new
    assert measures.diversity(list("ababab")) == pytest.approx(2 / 5 * 2 / 4 * 2 / 3)
    assert measures.diversity(["a"]) == 1


def test_novelty_counts_n_grams_that_the_source_has_not():
    source = "The cat sat on the mat."
    assert measures.novelty("the cat sat", source, 2) == 0
    assert measures.novelty("the cat lay", source, 2) == 0.5
    assert measures.novelty("the", source, 2) is None


def test_rouge_of_the_reference_is_one_and_of_another_text_less():
    pytest.importorskip("rouge_score")
    found = measures.rouge(["the cat sat", "a dog"], ["the cat sat", "the cat sat"])
    assert {name: values[0] for name, values in found.items()} == dict.fromkeys(measures.ROUGE, 1)
    assert found["rougeL"][1] == 0
    # precision 2/2, recall 2/4
    shorter = measures.rouge(["the cat"], ["the cat sat down"])
    assert shorter["rouge1"][0] == pytest.approx(2 / 3)


def test_bleu_of_the_reference_is_one():
    pytest.importorskip("sacrebleu")
    text = ["the cat sat on the mat", "a dog barked at him"]
    assert measures.bleu(text, text) == pytest.approx(1)
    assert measures.bleu(["the cat sat", "x y z w"], text) < 0.5


def test_a_package_that_is_missing_is_named(monkeypatch):
    import sys

    from wideneck.errors import WideneckError

    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    with pytest.raises(WideneckError, match="sacrebleu: pip install"):
        measures.bleu(["a"], ["a"])
