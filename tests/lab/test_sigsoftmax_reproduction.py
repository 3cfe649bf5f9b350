import io
import json
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from rich.console import Console

from lab.paper_page import charts, checked, rows
from wideneck import config as c
from wideneck.audits.output.head_ranks import log_prob_ranks
from wideneck.data import encode_corpus, read_corpus
from wideneck.errors import WideneckError
from wideneck.files.store import Store
from wideneck.lab.published import published_results
from wideneck.lab.registry import Request
from wideneck.lab.sigsoftmax import reproduction as module
from wideneck.lab.sigsoftmax.beside import beside, recalled, rows_of, sign
from wideneck.lab.sigsoftmax.known_rank.fit import Fit
from wideneck.lab.sigsoftmax.one_run import Run, train_and_measure
from wideneck.lab.sigsoftmax.recipes import MATCHED
from wideneck.models.small.config import AwdLstm, Transformer
from wideneck.report.terminal import show
from wideneck.training.optimizers import AdamW
from wideneck.training.recipe import Recipe, Schedule
from wideneck.training.saved_run import load_run

HEADS = ("softmax", "sigsoftmax", "ReLU", "sigmoid", "GSS", "PLIF", "MoC", "MoS", "MoSS")
COUNTS = {"train": 1000, "valid": 100, "test": 100, "vocab_size": 33_278}


def run(arm: str, seed: int, test_loss: float) -> Run:
    return Run(
        arm=arm,
        seed=seed,
        num_parameters=1000,
        valid_loss=test_loss + 0.1,
        test_loss=test_loss,
        test_perplexity=2.718281828**test_loss,
        train_loss=4.0,
        rank=402,
        rank_bound=402,
        effective_1e3=20,
        effective_1e4=100,
        effective_1e5=200,
        num_contexts=500,
        singular_values=[2.0, 1.0],
        mean_logit=-3.0,
        sd_logit=1.0,
        share_curved=0.9,
        learned={},
        epochs=0.2,
        tokens=1000,
        tokens_per_second=500.0,
        seconds=2.0,
        versions={},
    )


def some_fit() -> Fit:
    return Fit(
        language="topics",
        head="softmax",
        width=2,
        hidden_size=2,
        seed=0,
        kl=0.1,
        bound=0.01,
        rank=4,
        rank_float64=4,
        true_rank=10,
        true_rank_press=10,
        num_parameters=10,
        num_steps=5,
        seconds=0.1,
    )


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    recipes = module.recipes(module.SCALES["small"]["lstm"], None, COUNTS)
    of_arms = {arm: recipe.to_dict() for arm, recipe in recipes.items()}
    return {"scale": "small", "data": "WikiText-2", "recipes": of_arms}


@pytest.fixture
def found(settings):
    runs = [
        run(arm, seed, 4.2 - 0.004 * (arm == "sigsoftmax") + 0.001 * seed * (arm == "MoS"))
        for seed in range(3)
        for arm in settings["recipes"]
    ]
    return module.reproduction(settings, COUNTS, runs, [some_fit()])


def test_differences_are_taken_seed_by_seed(found):
    arms = {arm.name: arm.against_softmax for arm in found.arms}

    assert arms["softmax"] is None
    assert arms["sigsoftmax"].mean == pytest.approx(-0.004)
    assert arms["sigsoftmax"].std == pytest.approx(0, abs=1e-12)
    assert arms["MoS"].mean == pytest.approx(0.001)
    assert arms["MoS"].low < 0.001 < arms["MoS"].high


def test_a_seed_that_is_hard_for_both_moves_no_difference(settings):
    """Losses scatter by 0.1 over seeds, the difference not at all."""
    runs = [
        run(arm, seed, 4.2 + 0.1 * seed - 0.004 * (arm == "sigsoftmax"))
        for seed in range(3)
        for arm in settings["recipes"]
    ]
    arms = {arm.name: arm for arm in module.reproduction(settings, COUNTS, runs, []).arms}
    found = arms["sigsoftmax"].against_softmax
    assert arms["sigsoftmax"].figures["test_loss"].std == pytest.approx(0.1)
    assert (found.mean, found.std) == (pytest.approx(-0.004), pytest.approx(0, abs=1e-12))
    assert found.high == pytest.approx(-0.004)


def test_the_tables_fit_80_columns_and_name_every_head(found):
    console = Console(file=io.StringIO(), width=80, color_system=None)

    show(found, console)

    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    for name in [*HEADS, MATCHED, "softmax x 1.5", "softmax x 2", "softmax x learned"]:
        assert name in text
    assert "recalled, not checked" in text
    assert "not comparable: another scale" in " ".join(text.split())


def test_the_page_has_the_charts_and_recalled_numbers_set_back(found):
    page = found.to_html_text()
    text = checked(page)
    for name in [*HEADS, MATCHED, "softmax x 1.5", "softmax x learned"]:
        assert name in text
    assert charts(page) == [
        "Rank and loss",
        "Spectra of the log-probabilities",
        'KL on the language "topics"',
    ]
    assert rows(page, beside=True) == list(recalled(found, "WikiText-2"))


def test_no_sign_is_compared_on_another_text(found):
    console = Console(file=io.StringIO(), width=80, color_system=None)

    show(replace(found, data="a novel"), console)

    text = " ".join(console.file.getvalue().split())
    assert "not comparable: another text" in text
    assert "sign" not in text.replace("Sigsoftmax", "").replace("sigsoftmax", "")


def test_published_rows_are_the_replications_and_stand_beside_ours(found):
    rows = {one.ours: one for one in beside(found, "WikiText-2", "test perplexity")}

    assert set(rows) == {"softmax", "sigsoftmax", "GSS", "PLIF", "MoS"}
    assert (rows["MoS"].published.value, rows["MoS"].published.seeds) == (61.96, 11)
    assert rows["MoS"].verdict.gap == pytest.approx(rows["MoS"].figure.mean - 61.96)


def test_at_the_papers_scale_only_what_is_the_same_is_judged(found):
    found = replace(found, settings=found.settings | {"scale": "paper"}, data="WikiText-2")
    words = {one.ours: one.words for one in beside(found, "WikiText-2", "rank")}
    assert "not comparable" not in words["softmax"]
    assert words["PLIF"] == "not comparable: another start"


def test_a_sign_is_compared_where_the_replication_has_the_row(found):
    arms = {arm.name: sign(found, arm) for arm in found.arms}

    assert arms["sigsoftmax"] == "same sign"
    assert arms["ReLU"] == ""


def test_recalled_numbers_are_those_of_the_paper_itself(found):
    rows = recalled(found, "WikiText-2")

    assert rows["sigsoftmax"]["test perplexity"].value == 42.9
    assert all(number.recalled for row in rows.values() for number in row.values())


def test_every_arm_that_a_paper_names_finds_its_row():
    published = published_results("sigsoftmax")
    for arm in HEADS:
        assert arm.lower() in rows_of(published, data="PTB")


@pytest.mark.parametrize(
    ("of", "over", "wrong"),
    [
        (("softmax", 0), ("softmax", 1), "seed is 0 there, 1 here"),
        (("GSS", 1), ("PLIF", 1), "arm is 'GSS' there, 'PLIF' here"),
    ],
)
def test_a_run_that_was_copied_over_another_is_refused(of, over, wrong, settings, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("one two three\n" * 100)
    request = Request(paper="sigsoftmax", text=str(file), num_seeds=2, out=tmp_path / "out")
    chosen, _ = module._settings(request, "small")
    with Store.opened(tmp_path / "out", chosen) as store:
        for arm, seed in product(settings["recipes"], range(2)):
            one = of if (arm, seed) == over else (arm, seed)
            store.write(module.file_of(arm, seed), run(*one, 4.2))
    with pytest.raises(WideneckError, match=rf"{over[0].lower()}-.* \({wrong}\)"):
        module.reproduce(request, lambda *_: None)


def test_what_is_found_goes_into_json_with_definitions(found):
    content = json.loads(json.dumps(found.to_dict(), allow_nan=False))

    assert content["arms"][0]["name"] == "softmax"
    assert "definitions" in content


def tiny(model) -> Recipe:
    return Recipe(
        model=model,
        head=c.Mixture(num_components=2, activation=c.Sigsoftmax(learned=True)),
        optimizer=AdamW(),
        training=Schedule(
            epochs=0.2, batch_size=4, segment=8, evaluate_every=0.2, evaluation_tokens=100
        ),
    )


@pytest.mark.parametrize(
    "model",
    [
        AwdLstm(embedding_size=8, hidden_size=12, last_size=10),
        Transformer(context=8, options={"n_embd": 8, "n_layer": 1, "n_head": 2}),
    ],
    ids=["lstm", "transformer"],
)
def test_one_run_is_trained_and_measured(tmp_path, model):
    """The loss, a token at a time: an LSTM reads ten rows, a transformer windows of its length."""
    text = " ".join(f"word{(7 * i) % 41} and\n" for i in range(800))
    file = tmp_path / "text.txt"
    file.write_text(text)
    recipe = tiny(model)
    recipe = replace(recipe, data=replace(recipe.data, text=str(file)))
    shares = []

    found = train_and_measure("MoSS", 1, recipe, tmp_path / "run", 50, shares.append)

    trained = load_run(tmp_path / "run").model.eval()
    ids = encode_corpus(read_corpus(str(file)), recipe.data).test.ids[:100]
    if trained.backbone.context:
        cuts = [(s, min(s + 8, 99)) for s in range(0, 99, 8)]
        inputs, targets = zip(*((ids[s:e], ids[s + 1 : e + 1]) for s, e in cuts), strict=True)
    else:
        rows = ids.view(10, 10)
        inputs, targets = rows[:, :-1], rows[:, 1:]
    with torch.no_grad():
        log_probs = [trained.log_probs(part[None])[0][0].double() for part in inputs]
    nll = [-p.gather(1, y[:, None]) for p, y in zip(log_probs, targets, strict=True)]
    assert found.test_loss == pytest.approx(torch.cat(nll).mean().item(), rel=1e-5)
    assert (found.num_contexts, found.rank_bound) == (50, 44)
    assert found.learned == {"shift": trained.head.activation.shift.item()}
    assert len(shares) > 1
    assert shares == sorted(shares)


def test_the_first_contexts_are_those_the_replication_takes(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text(" ".join(f"word{(7 * i) % 41} and\n" for i in range(800)))
    recipe = tiny(AwdLstm(embedding_size=8, hidden_size=12, last_size=10))
    recipe = replace(recipe, data=replace(recipe.data, text=str(file)))

    found = train_and_measure(
        "MoSS", 0, recipe, tmp_path / "run", 50, lambda share: None, contexts_are_first=True
    )

    model = load_run(tmp_path / "run").model
    ids = encode_corpus(read_corpus(str(file)), recipe.data).test.ids
    with torch.no_grad():
        first = model.backbone(ids[None, :50]).hidden[0]
    expected = log_prob_ranks(model.head, first, num_contexts=50)
    assert (found.num_contexts, found.rank) == (50, expected.press)
    assert found.mean_logit == pytest.approx(expected.mean_logit, rel=1e-5)


def test_the_papers_scale_wants_the_papers_text(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("one two three\n" * 100)
    request = Request(paper="sigsoftmax", scale="paper", text=str(file), out=tmp_path / "out")

    with pytest.raises(WideneckError, match="neither Penn Treebank"):
        module.reproduce(request, lambda *_: None)
    assert not (tmp_path / "out").exists()
