"""HTML files: self-contained, well-formed, escaped, and every number defined."""

import dataclasses
import re
import xml.etree.ElementTree as ET

import pytest

from report.attention_examples import attention_audit
from report.examples import (
    MODEL,
    head_audit,
    output_audit,
    report,
    series,
    with_unreachable,
)
from report.html_tree import read
from report.memory_examples import memory_audit
from wideneck.report.html import render

REMOTE = re.compile(r"https?:|\bsrc\s*=|@import|url\(|<script|<link|<iframe|<object", re.IGNORECASE)

HEAD = head_audit()
CASES = {
    "all": report(HEAD, output_audit()),
    "unreachable tokens": report(with_unreachable(HEAD), output_audit()),
    "head": report(HEAD, None),
    "output": report(None, output_audit()),
    "no search": report(dataclasses.replace(HEAD, argmaxable=None), None),
    "no special rows": report(dataclasses.replace(HEAD, without_special=None), None),
    "not weighted": report(head_audit(weighted=False), None),
    "few tokens": report(HEAD, output_audit(methods=("plain", "centred"))),
    "one document": report(HEAD, output_audit(half=None)),
    "no tokenizer": report(
        dataclasses.replace(
            HEAD,
            rows=dataclasses.replace(HEAD.rows, beyond_tokenizer=None, undertrained=None),
        ),
        None,
    ),
    "everything": report(HEAD, output_audit(), attention_audit(), memory_audit()),
    "attention": report(None, None, attention_audit(12, 12)),
    "head and attention": report(HEAD, None, attention_audit(1, 2)),
    "attention without extras": report(
        None,
        None,
        attention_audit(
            ablation=False, closed_form=False, half=None, critical=False, comparison=False
        ),
    ),
    "one head, one length, one size": report(
        None, None, attention_audit(1, 1, sizes=(5,), lengths=(32,), temperatures=(1.0,))
    ),
    "memory": report(None, None, memory=memory_audit(30)),
    "memory without caches": report(None, None, memory=memory_audit(0, caches=False)),
    "memory without help": report(None, None, memory=memory_audit(helped=False, half=None)),
    "head and a memory without ranks": report(
        HEAD, None, memory=memory_audit(ranked=False, elsewhere=False)
    ),
    "no heads": report(
        None,
        None,
        dataclasses.replace(
            attention_audit(comparison=False, critical=False),
            heads=[],
            by_size=[],
            by_length=[],
            by_step=[],
            links=[],
        ),
    ),
}
PAGES = {name: render(case) for name, case in CASES.items()}
PAGES["series"] = render(series([0, 1, 10, 1000]))
PAGES["short series"] = render(series([500, 1000], identical=False))
PAGES["series without steps"] = render(series([0, 1, 2]))


@pytest.mark.parametrize("name", PAGES)
def test_is_one_small_file_that_fetches_nothing(name):
    assert not REMOTE.search(PAGES[name])
    assert len(PAGES[name].encode()) < 300_000


@pytest.mark.parametrize("name", PAGES)
def test_is_well_formed_and_every_link_has_its_definition(name):
    tree = read(PAGES[name])
    assert len(tree.ids) == len(set(tree.ids))
    assert {link.removeprefix("#") for link in tree.links} <= set(tree.ids)
    assert any(link.startswith("#def-") for link in tree.links)


@pytest.mark.parametrize("name", PAGES)
def test_charts_are_xml_with_a_title(name):
    charts = re.findall(r"<svg.*?</svg>", PAGES[name], re.DOTALL)
    assert charts or name == "no heads"
    for chart in charts:
        root = ET.fromstring(chart)
        assert root[0].tag == "title"
        assert root[0].text
        assert "nan" not in chart


def test_strings_of_strangers_are_text():
    page = PAGES["unreachable tokens"]
    assert "&lt;script&gt;alert(" in page
    assert MODEL in read(page).text
    assert "a <i>text</i>" in read(page).text
    assert "\x1b" not in page
    assert "\u202e" not in page


def test_shows_the_key_figures_with_their_baselines():
    text = read(PAGES["all"]).text.replace("\u00a0", " ")
    for expected in ("2.60", "[2.50, 2.70]", "4.38 uniform", "80 uniform", "20.0 % at random"):
        assert expected in text
    text = read(PAGES["unreachable tokens"]).text
    assert "1 token can never be the most probable" in text
    assert all(f"open{i} ({i})" in text for i in range(70))  # where a browser's search finds them


def test_says_what_was_not_measured():
    assert "too few tokens" in PAGES["few tokens"]
    assert "was not asked for" in PAGES["no search"]


def test_definitions_are_sentences_and_formulas_stay():
    text = read(PAGES["all"]).text
    assert "Mean negative log-likelihood of the next token." in text
    assert "d / V: the share" in text
    assert "kl_sigma2 / log d" in text


def test_identical_heads_are_flagged():
    assert "Identical heads" in PAGES["series"]
    assert "runs/step0 = runs/step1" in read(PAGES["series"]).text
    assert "Identical heads" not in PAGES["short series"]


def test_attention_says_what_it_is_and_what_it_is_not():
    text = read(PAGES["attention"]).text.replace("\u00a0", " ")
    for expected in (
        "softmax; 12 layers with 12 heads of width 64",
        "144 attention heads (softmax) on 4 windows of 512 tokens",
        "it describes the heads and diagnoses none",
        "256 visible, mean",
        "layer 1, head 1: 0.7000 [0.6970, 0.7030] nats",
        "heads that stand in for each other all look dispensable",
        "without training for it",
    ):
        assert expected in " ".join(text.split())
    assert "<b>without</b> the first key" in text
    assert "&lt;i&gt;sigmoid&lt;/i&gt;" in PAGES["attention"]


def test_what_attention_was_not_asked_for_is_not_shown():
    page = PAGES["attention without extras"]
    assert "No head was replaced" in page
    for absent in ('id="normalizers"', "Scan for the critical", "Sensitivity", "Rank correlation"):
        assert absent not in page
    assert "No attention head was measured" in PAGES["no heads"]
    assert 'href="#attention"' not in PAGES["all"]


def test_memory_says_what_it_is_and_what_it_is_not():
    text = " ".join(read(PAGES["memory"]).text.replace("\u00a0", " ").split())
    for expected in (
        "4,096 predictions in windows of 512, from 8 documents",
        "0.330 token identity",
        "39.0 % other text",
        "The model was not trained for it",
        "not what a cache would gain, or find, in a model trained with one",
        "as published, untrained",
        "Of memory:",
    ):
        assert expected in text
    assert "Of attention:" not in text
    assert "cannot be fitted on one half" in PAGES["memory without caches"]
    assert "so none is ranked" in PAGES["head and a memory without ranks"]
    assert 'href="#memory"' not in PAGES["all"]
