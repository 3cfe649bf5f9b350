"""`wideneck evaluate` on runs trained here and on models saved here."""

import json
import math
import random
import sys
from dataclasses import fields
from io import StringIO

import pytest
import torch
from rich.console import Console

from attached.attachable import attached, shaken
from report.html_tree import read
from tiny_text import character_tokenizer, write_text
from wideneck.cli import main
from wideneck.commands.evaluate import evaluate
from wideneck.commands.options import besides_option
from wideneck.data import encode_corpus, read_corpus
from wideneck.errors import WideneckError
from wideneck.evaluation import (
    DynamicEvaluation,
    cache_perplexity,
    dynamic_perplexity,
    fit_cache,
    gradient_statistics,
)
from wideneck.evaluation.results import Evaluation
from wideneck.report.fields import definitions
from wideneck.report.terminal import show
from wideneck.training.recipe_file import recipe
from wideneck.training.run import run
from wideneck.training.saved_run import load_run

MODELS = {
    "lstm": {
        "name": "awd_lstm",
        "embedding_size": 8,
        "hidden_size": 8,
        "num_layers": 1,
        "output_dropout": 0.3,
    },
    "transformer": {
        "name": "transformer",
        "architecture": "llama",
        "context": 16,
        "bias": True,
        "options": {
            "hidden_size": 8,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
        },
    },
}
HEADS = {"lstm": {"name": "mos", "num_components": 2}, "transformer": {"name": "softmax"}}
DYNAMIC = DynamicEvaluation(learning_rate=1e-3, decay=1e-2)


def lines(num: int, seed: int) -> str:
    """Of nine words, each of them near the one before in an order of forty."""
    draw = random.Random(seed)
    starts = [draw.randrange(40) for _ in range(num)]
    return "".join(
        " ".join(f"w{(s + 3 * k + draw.randrange(2)) % 40}" for k in range(9)) + "\n"
        for s in starts
    )


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    for seed, (split, num) in enumerate({"train": 70, "valid": 25, "test": 20}.items()):
        (folder / f"{split}.txt").write_text(lines(num, seed), "utf-8")
    with (folder / "test.txt").open("a") as file:
        file.write("\nw1 unseen w2\n")
    return folder


@pytest.fixture(scope="module", params=MODELS)
def trained(request, text, tmp_path_factory):
    """A run's folder and what training found."""
    folder = tmp_path_factory.mktemp("runs") / request.param
    chosen = recipe(
        {
            "data": {"text": str(text)},
            "model": MODELS[request.param],
            "head": HEADS[request.param],
            "optimizer": {"name": "adamw", "learning_rate": 0.03},
            "training": {"epochs": 4.0, "batch_size": 5, "segment": 10, "evaluate_every": 4.0},
        }
    )
    return folder, run(chosen, folder, show=lambda *_: None)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "gpt2-mos"
    shaken(attached("gpt2", "mos", num_components=3)).save_pretrained(folder)
    character_tokenizer(bos=True).save_pretrained(folder)
    write_text(folder / "text.txt")
    return folder


def encoded(folder):
    data = load_run(folder).recipe.data
    return encode_corpus(read_corpus(data.text), data)


@torch.no_grad()
def slow_loss(folder, ids):
    """One row of the text in one piece, or window by window."""
    model = load_run(folder).model.double()
    length = model.backbone.context or len(ids)
    nll = []
    for start in range(0, len(ids) - 1, length):
        piece = ids[start : start + length + 1]
        log_probs, _ = model.log_probs(piece[None, :-1])
        nll.append(-log_probs[0].gather(1, piece[1:, None])[:, 0])
    return torch.cat(nll).mean().item()


def test_the_test_text_of_a_run_is_read_in_one_row(trained, text):
    found = evaluate(trained[0])
    ids = encoded(trained[0]).test.ids
    assert found.plain.loss == pytest.approx(slow_loss(trained[0], ids), rel=1e-5)
    assert found.plain.num_tokens == len(ids) - 1
    read = (text / "test.txt").read_bytes()
    num_bytes = len(read) - len(read.split()[0])  # the first word is not predicted
    assert found.plain.bits_per_byte == pytest.approx(bits(found.plain) / num_bytes)
    assert (found.source.split, found.source.kind) == ("test", "run")
    assert found.source.num_parameters == trained[1]["num_parameters"]
    assert "<unk>" in found.source.notes[0]
    assert (found.over_documents, found.neural_cache, found.dynamic, found.ranks) == (None,) * 4


def test_the_validation_text_of_a_run_has_the_loss_that_training_found(trained):
    found = evaluate(trained[0], split="valid")
    assert found.plain.loss == pytest.approx(trained[1]["valid_loss"], rel=1e-5)


def test_a_file_is_read_whole_by_the_vocabulary_of_the_run(trained, text):
    own, other = evaluate(trained[0]), evaluate(trained[0], text / "test.txt")
    assert other.plain == own.plain
    assert (other.source.split, other.source.text) == (None, "test.txt")
    folder = evaluate(trained[0], text)
    assert folder.plain == own.plain


def bits(found):
    return found.loss * found.num_tokens / math.log(2)


def test_bytes_are_those_of_the_tokens_that_are_predicted_in_rows(trained, text):
    """The first word of each of ten rows, and what does not fill them, cost nothing."""
    found = evaluate(trained[0], split="valid").plain
    words = (text / "valid.txt").read_text().replace("\n", " <eos> ").split()
    length = len(words) // 10
    sizes = [
        1 if word == "<eos>" else len(word) + (words[i - 1] != "<eos>")
        for i, word in enumerate(words)
    ]
    if load_run(trained[0]).model.backbone.context:
        expected = sum(sizes[1:])
    else:
        expected = sum(sum(sizes[row * length + 1 : (row + 1) * length]) for row in range(10))
    assert found.bits_per_byte == pytest.approx(bits(found) / expected, rel=1e-12)


def test_a_part_of_the_text_has_the_bytes_of_its_tokens(trained, text):
    found = evaluate(trained[0], num_tokens=40)
    assert found.plain.loss == pytest.approx(
        slow_loss(trained[0], encoded(trained[0]).test.ids[:40]), rel=1e-5
    )
    lines = (text / "test.txt").read_text().replace("\n", " \0 ").split(" ")
    tokens = [word for word in lines if word]
    read = " ".join(tokens[:40]).replace(" \0 ", "\n").replace(" \0", "\n")
    expected = len(read) - len(tokens[0])
    assert found.plain.bits_per_byte == pytest.approx(bits(found.plain) / expected)
    assert "first 40 tokens" in found.source.notes[-1]


def test_cache_and_statistics_come_from_the_other_splits_of_the_run(trained, text):
    found = evaluate(trained[0], text / "test.txt", dynamic=DYNAMIC, cache_size=50)
    model, corpus = load_run(trained[0]).model, encoded(trained[0])
    fit = fit_cache(model, corpus.valid.ids, batch_size=10, size=50)
    assert found.neural_cache.theta == fit.cache.theta
    assert found.neural_cache.weight == fit.cache.weight
    assert found.neural_cache.valid_loss == pytest.approx(fit.loss)
    first = (text / "test.txt").read_text().split()[0]
    read = (text / "test.txt").read_bytes()
    beside = {"num_bytes": len(read) - len(first)}
    rows = 1 if model.backbone.context is None else 10
    assert found.neural_cache.perplexity == cache_perplexity(
        model, corpus.test.ids, fit.cache, batch_size=rows, **beside
    )
    statistics = gradient_statistics(model, corpus.train.ids)
    assert found.dynamic.num_batches == statistics.num_batches
    learnt = dynamic_perplexity(model, corpus.test.ids, statistics, DYNAMIC, **beside)
    assert found.dynamic.perplexity.loss == pytest.approx(learnt.loss, rel=1e-5)
    assert found.dynamic.perplexity.loss != found.plain.loss


def test_the_ranks_of_a_run_are_within_what_its_head_allows(trained):
    found = evaluate(trained[0], num_contexts=100_000).ranks
    assert found.num_contexts == evaluate(trained[0]).plain.num_tokens
    assert found.press <= found.bound
    assert len(found.singular_values) == found.vocab_size
    assert evaluate(trained[0], num_contexts=5).ranks.num_contexts == 5


def test_a_text_that_changed_is_refused(trained, text):
    before = (text / "valid.txt").read_text()
    (text / "valid.txt").write_text(before + "w1 w2\n")
    try:
        with pytest.raises(WideneckError, match="is not what it was when"):
            evaluate(trained[0])
        evaluate(trained[0], text / "test.txt")  # needs no other
    finally:
        (text / "valid.txt").write_text(before)


def test_a_model_reads_documents_and_has_intervals_over_them(saved):
    found = evaluate(saved, saved / "text.txt", num_contexts=30)
    documents = (saved / "text.txt").read_text().split("\f")
    assert found.plain.num_tokens == sum(len(d) - 1 for d in documents)
    over = found.over_documents
    assert (over.loss.over, over.loss.num_groups) == ("documents", len(documents))
    assert over.loss.value == pytest.approx(found.plain.loss)
    assert over.bits_per_byte.value == pytest.approx(found.plain.bits_per_byte)
    assert over.loss.low < found.plain.loss < over.loss.high
    assert (found.source.head, found.source.kind) == ("mos", "model")
    assert "windows of 63 tokens behind 1 that the tokenizer puts in front" in (
        found.plain.conventions
    )
    assert found.ranks.num_contexts == 30


def test_a_model_in_memory_is_evaluated_as_the_one_on_disk(saved):
    model = shaken(attached("gpt2", "mos", num_components=3))
    tokenizer = character_tokenizer(bos=True)
    found = evaluate(model, saved / "text.txt", tokenizer=tokenizer, num_tokens=500, context=20)
    other = evaluate(saved, saved / "text.txt", num_tokens=500, context=20)
    assert found.plain.loss == pytest.approx(other.plain.loss, rel=1e-6)
    assert found.plain.num_tokens == 500
    assert "500 tokens were asked for: 1 of 6 documents" in found.source.notes[0]


def test_a_window_alone_has_no_interval(saved):
    found = evaluate(saved, saved / "text.txt", num_tokens=20)
    assert found.over_documents.loss.low is None
    assert "no 95 % interval: 1 window is one sample" in " ".join(shown(found).split())


def shown(found):
    console = Console(width=80, file=StringIO())
    show(found, console)
    printed = console.file.getvalue()
    assert max(map(len, printed.splitlines())) <= 80
    return printed


def test_every_number_is_printed_in_80_columns_and_has_a_definition(trained):
    found = evaluate(trained[0], dynamic=DYNAMIC, cache_size=50, num_contexts=30)
    printed = shown(found)
    rows = (found.plain, found.neural_cache.perplexity, found.dynamic.perplexity)
    assert all(f"{row.loss:.4f}" in printed for row in rows)
    assert f"at most {found.ranks.bound}" in printed
    assert "predictions" in printed
    for path, entry in definitions(Evaluation).items():
        assert entry.get("definition"), path
    content = json.loads(found.to_json_text())
    assert content["definitions"]["plain.loss"]["unit"] == "nats"
    assert content["ranks"]["singular_values"] == found.ranks.singular_values
    assert {field.name for field in fields(Evaluation)} < set(content)


def wideneck(monkeypatch, *arguments):
    """The command in this process; None, or the line it ends with."""
    monkeypatch.setattr(sys, "argv", ["wideneck", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code


def test_the_command_prints_a_table_and_writes_json(trained, monkeypatch, capsys, tmp_path):
    asked = ["--with", "neural-cache:size=50", "--with", "ranks", "--with", "dynamic:scaling=old"]
    file = tmp_path / "e.json"
    assert not wideneck(monkeypatch, "evaluate", trained[0], *asked, "--json", file)
    printed = capsys.readouterr().out
    content = json.loads(file.read_text())
    assert f"{content['plain']['perplexity']:,.2f}" in printed
    assert content["neural_cache"]["size"] == 50
    assert content["dynamic"]["learning_rate"] == DynamicEvaluation.published().learning_rate
    assert content["source"]["command"].startswith("wideneck evaluate")
    assert not wideneck(monkeypatch, "evaluate", trained[0], "--json", "-")
    assert json.loads(capsys.readouterr().out)["plain"] == content["plain"]


def test_the_page_of_an_evaluation_has_its_tables_and_the_spectrum(
    trained, monkeypatch, capsys, tmp_path
):
    file = tmp_path / "e.html"
    asked = ["--with", "ranks", "--with", "neural-cache:size=50"]
    assert not wideneck(monkeypatch, "evaluate", trained[0], *asked, "--html", file)
    printed, page = capsys.readouterr().out, file.read_text("utf-8")
    tree = read(page)
    text = " ".join(tree.text.replace("\u00a0", " ").split())
    for label in ("the model", "with a neural cache", "effective, 1 - 1e-4"):
        row = next(line for line in printed.splitlines() if line.startswith(label))
        assert all(cell in text for cell in row.removeprefix(label).split())
    assert page.count("<svg") == 1
    assert {"#def-plain-perplexity", "#def-ranks-press", "#ranks"} <= set(tree.links)
    assert {link.removeprefix("#") for link in tree.links} <= set(tree.ids)
    assert "default-src 'none'" in page
    assert wideneck(monkeypatch, "evaluate", trained[0], "--html", file, "--json", file)


def test_what_is_measured_besides_takes_its_numbers():
    found = besides_option(["dynamic:learning_rate=0.1,segment=7", "ranks:num-contexts=9"])
    assert found.dynamic == DynamicEvaluation(learning_rate=0.1, segment=7)
    assert (found.num_contexts, found.cache_size) == (9, None)
    assert besides_option(["dynamic:scaling=old"]).dynamic == DynamicEvaluation.published()
    assert besides_option([]).dynamic is None


BAD = {
    "nothing there": (["nowhere/at/all"], "There is no file or folder 'nowhere/at/all'"),
    "no text": (["{run}", "--text", "nowhere"], "There is no file or folder nowhere"),
    "unknown split": (["{run}", "--split", "tset"], "Did you mean 'test'?"),
    "a split of a file": (["{run}", "--text", "{file}", "--split", "test"], "read whole"),
    "a split of the default text": (["{model}", "--split", "test"], "has no splits"),
    "unknown measure": (["{run}", "--with", "rank"], "Did you mean 'ranks'?"),
    "unknown setting": (["{run}", "--with", "dynamic:rate=1"], "No option of 'dynamic'"),
    "a setting that is no number": (["{run}", "--with", "neural-cache:size=x"], "whole number"),
    "no cache": (["{run}", "--with", "neural-cache:size=0"], "whole number >= 1"),
    "unknown scaling": (["{run}", "--with", "dynamic:scaling=odd"], "Did you mean 'old'?"),
    "dynamic of a model": (["{model}", "--with", "dynamic"], "is for a folder of `wideneck train`"),
    "cache of a model": (["{model}", "--with", "neural-cache"], "A neural cache is for a folder"),
    "a context for a run": (["{run}", "--context", "9"], "leave out --context"),
    "a long context": (["{model}", "--text", "{file}", "--context", "64"], "positions for 63"),
    "no tokens": (["{run}", "--tokens", "0"], "--tokens of at least 1, got 0"),
    "one token": (["{run}", "--tokens", "1"], "too few to predict one"),
    "empty text": (["{run}", "--text", "{empty}"], "is empty"),
    "missing folder": (["{run}", "--json", "nowhere/e.json"], "no folder nowhere"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_one_sentence(case, saved, text, tmp_path, monkeypatch, capsys):
    arguments, message = BAD[case]
    folder = tmp_path / "run"
    if "{run}" in arguments:
        chosen = recipe(
            {
                "data": {"text": str(text)},
                "model": {"name": "awd_lstm", "embedding_size": 4, "hidden_size": 4},
                "training": {"epochs": 0.1},
            }
        )
        run(chosen, folder, show=lambda *_: None)
    (tmp_path / "empty").write_text(" \n")
    names = {
        "run": folder,
        "model": saved,
        "file": saved / "text.txt",
        "empty": tmp_path / "empty",
    }
    monkeypatch.chdir(tmp_path)
    line = wideneck(monkeypatch, "evaluate", *(a.format(**names) for a in arguments))
    assert line.startswith("wideneck: ")
    assert message in line
    assert "\n" not in line
    assert capsys.readouterr().out == ""
