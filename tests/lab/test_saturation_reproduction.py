import io
import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from rich.console import Console
from small_saturation import RANKS, WIDTHS, reproduced, tiny_settings

from lab.paper_page import charts, checked, rows
from wideneck import WideneckError
from wideneck.data import encode_corpus, read_corpus
from wideneck.files.writing import json_text
from wideneck.lab import jobs
from wideneck.lab.registry import Request
from wideneck.lab.saturation.family import checkpoint_steps, train_and_measure
from wideneck.lab.saturation.heads_run import head_recipe, random_rate, whitened_rate
from wideneck.lab.saturation.loss_table import PYTHIA
from wideneck.lab.saturation.reproduction import Reproduction, reproduce, settings
from wideneck.lab.saturation.scaling import laws
from wideneck.report.terminal import show
from wideneck.training.batches import text_in_order
from wideneck.training.loop import mean_nll
from wideneck.training.saved_run import load_run
from wideneck.training.states_task import recipe_states


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("saturation")


@pytest.fixture(scope="module")
def found(place: Path) -> Reproduction:
    patch = pytest.MonkeyPatch()
    patch.setattr(jobs, "PROCESSES", 1)
    try:
        return reproduced(place, num_seeds=2)
    finally:
        patch.undo()


def test_every_part_has_its_models_and_measurements(found: Reproduction):
    assert [width.width for width in found.widths] == list(WIDTHS)
    assert len(found.family) == 2 * len(WIDTHS)
    for run in found.family:
        assert [one.checkpoint.step for one in run.measured] == checkpoint_steps(40, 2)
        assert run.tokens == 40 * 32
    d = found.truncated.hidden_size
    ranks = [(arm.start, arm.rank) for arm in found.arms]
    assert ranks == [*(("whitened", rank) for rank in (*RANKS, d)), ("own", d)]
    # Only what is below the width is cut: at the width there is nothing to lose or to predict.
    for method in ("plain", "whitened"):
        assert [p.rank for p in found.truncated.cost.points if p.method == method] == [*RANKS]
        assert all((getattr(arm, method) is None) == (arm.rank == d) for arm in found.arms)
    assert [len(one.orders) for one in found.ngrams] == [4, 4]


def test_a_model_starts_at_the_log_of_its_vocabulary_and_learns(found: Reproduction):
    for run in found.family:
        first, last = run.measured[0], run.measured[-1]
        assert abs(first.checkpoint.loss - math.log(found.counts["vocab_size"])) < 0.5
        assert last.checkpoint.loss < first.checkpoint.loss
        assert last.train_loss < first.train_loss


def test_each_loss_of_a_model_is_that_of_its_own_text(found: Reproduction, place: Path):
    """The training loss is of the start of the training text, the other of the held-out one."""
    run = found.family[0]
    saved = load_run(place / "out" / "runs" / f"family-d{run.width}-seed{run.seed}")
    recipe, model = saved.recipe, saved.model
    corpus = encode_corpus(read_corpus(recipe.data.text), recipe.data)
    schedule, last = recipe.training, run.measured[-1]
    rows = schedule.evaluation_batch_size
    train, valid = (
        mean_nll(model, text_in_order(model, ids, schedule, rows), torch.device("cpu"))
        for ids in (corpus.train.ids[:65], corpus.valid.ids)
    )
    assert abs(train - valid) > 1e-3
    assert last.train_loss == pytest.approx(train, rel=1e-5)
    assert last.checkpoint.loss == pytest.approx(valid, rel=1e-5)
    assert run.num_embedding_parameters == 2 * found.counts["vocab_size"] * run.width


def test_the_untouched_output_layer_has_the_loss_of_its_own_states(
    found: Reproduction, place: Path
):
    """Window by window, from the weights and states that were read off the model."""
    states = recipe_states(tiny_settings(place).heads, place / "out" / "runs")
    valid = states.splits["valid"]
    logits = states.logit_scale * valid.hidden.double() @ states.weight.double().T
    if states.bias is not None:
        logits = logits + states.bias.double()
    nll = -logits.log_softmax(-1).gather(1, valid.target.long()[:, None]).view(-1, 32).mean(1)
    (own, *_) = (run for run in found.heads if run.start == "own")
    assert own.first == pytest.approx(nll.tolist(), rel=1e-4)
    assert own.last != pytest.approx(own.first, rel=1e-6)
    assert own.last != own.nearly_last


def test_every_seed_is_another_run(found: Reproduction):
    finals = {(run.width, run.measured[-1].checkpoint.loss) for run in found.family}
    starts = {(run.width, run.measured[0].checkpoint.kl_sigma2) for run in found.family}
    assert len(finals) == len(starts) == len(found.family)
    ends = {(run.start, run.rank, tuple(run.last)) for run in found.heads}
    assert len(ends) == len(found.heads)  # another order of the same states


def test_the_final_loss_is_that_of_the_run_itself(found: Reproduction, place: Path):
    for run in found.family:
        name = f"family-d{run.width}-seed{run.seed}"
        result = json.loads((place / "out" / "runs" / name / "result.json").read_text())
        assert run.measured[-1].checkpoint.loss == result["valid_loss"]


def test_a_head_of_full_rank_starts_as_the_untouched_output_layer(found: Reproduction):
    (full,) = (arm for arm in found.arms if arm.start == "whitened" and arm.share == 1)
    assert abs(full.first_gap.value) < 1e-4
    assert full.w_error == 0


def test_what_a_head_loses_at_first_is_what_the_audit_measures_of_the_whitened_cut(
    found: Reproduction,
):
    cut = [arm for arm in found.arms if arm.whitened is not None]
    assert [arm.rank for arm in cut] == list(RANKS)
    for arm in cut:
        assert arm.first_gap.value == pytest.approx(arm.whitened.measured.value, abs=1e-4)
        assert arm.first_gap.high == pytest.approx(arm.whitened.measured.high, abs=1e-4)


def test_gaps_are_differences_of_mean_losses(found: Reproduction):
    softmax = found.arms[-1]
    for arm in found.arms:
        assert arm.full_gap.value == pytest.approx(arm.trained.value - softmax.trained.value)
        assert arm.trained_gap.value == pytest.approx(arm.trained.value - softmax.first.value)
    assert softmax.full_gap.value == 0


def test_the_table_has_80_columns_and_every_part(found: Reproduction):
    text = io.StringIO()
    show(found, Console(file=text, width=80, color_system=None))
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    for title in ("The family", "Output layer", "Heads of rank r", "Figure 6", "n-grams"):
        assert any(title in line for line in lines)
    assert "\N{HORIZONTAL ELLIPSIS}" not in text.getvalue()  # nothing was cut off


def test_rates_that_were_chosen_on_a_run_are_called_so(found: Reproduction):
    heads = found.settings["heads"]
    own = {"model": heads["model"] | {"model": None}, "data": heads["data"] | {"text": None}}
    for changed, chosen in ((heads | own, True), (heads | {"data": own["data"]}, False)):
        page = replace(found, settings=found.settings | {"heads": changed}).to_html_text()
        assert ("were chosen on seed 0, which is here" in page) == chosen


def test_the_page_has_the_charts_and_the_paper_s_rows_set_back(found: Reproduction):
    page = found.to_html_text()
    text = checked(page)
    assert "were chosen on seed 0" not in text  # of another model, on another text
    assert "Here: no width whose held-out loss rises" in text
    assert charts(page) == [
        "Held-out loss over training",
        "Singular entropy over training",
        "Heads of rank r",
    ]
    assert [row for row in rows(page, beside=True) if row] == [
        f"paper, {size}M" for size in (14, 31, 70, 160, 410)
    ]
    assert "d = 4" in rows(page, beside=False)


def test_json_holds_all_with_definitions(found: Reproduction):
    content = json.loads(json_text(found.to_dict()))
    assert content["definitions"]["arms[].full_gap.value"]["definition"]
    assert content["arms"][0]["rank"] == RANKS[0]


def test_finished_runs_are_read_and_not_made_again(found: Reproduction, place: Path):
    before = {file: file.stat().st_mtime_ns for file in (place / "out").rglob("*.json")}
    again = reproduced(place, num_seeds=2)
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert again.arms == found.arms
    assert again.widths == found.widths


def test_a_model_interrupted_between_two_measurements_goes_on_to_the_same_ones(
    found: Reproduction, place: Path
):
    def kill(share: float) -> None:
        if share > 0.7:  # after the one at half of the steps, before the last
            raise InterruptedError

    run = found.family[0]
    recipe = tiny_settings(place).family[run.width]
    recipe = replace(recipe, training=replace(recipe.training, checkpoint_every=0.0))
    lengths = (run.tokens, 2, 64)
    folder = place / "interrupted"
    job = partial(train_and_measure, run.width, run.seed, recipe, *lengths, folder)
    with pytest.raises(InterruptedError):
        job(kill)
    assert job(lambda share: None).measured == run.measured


@pytest.mark.parametrize(
    ("of", "over", "wrong"),
    [
        ("family-d4-seed0", "family-d8-seed0", "width is 4 there, 8 here"),
        ("family-d4-seed0", "family-d4-seed1", "seed is 0 there, 1 here"),
        ("heads-whitened-r2-seed0", "heads-whitened-r8-seed0", "rank is 2 there, 8 here"),
        (
            "heads-own-r16-seed0",
            "heads-whitened-r16-seed0",
            "start is 'own' there, 'whitened' here",
        ),
        ("heads-whitened-r2-seed1", "heads-whitened-r2-seed0", "seed is 1 there, 0 here"),
    ],
)
def test_a_run_that_was_copied_over_another_is_refused(
    of: str, over: str, wrong: str, found: Reproduction, place: Path
):
    file = place / "out" / f"{over}.json"
    before = file.read_bytes()
    file.write_bytes((place / "out" / f"{of}.json").read_bytes())
    try:
        with pytest.raises(WideneckError, match=rf"{over}\.json .* \({wrong}\)"):
            reproduced(place, num_seeds=2)
    finally:
        file.write_bytes(before)


def test_other_settings_want_another_folder(found: Reproduction, place: Path):
    with pytest.raises(WideneckError, match="tokens is"):
        reproduced(place, tokens=64)


def test_no_paper_scale_without_a_text():
    with pytest.raises(WideneckError, match="--text"):
        reproduce(Request(paper="saturation", scale="paper"), lambda stage, done, total: None)


def test_measurements_are_spaced_by_powers_of_two_and_then_evenly():
    assert checkpoint_steps(400, 8) == [0, 1, 2, 4, 8, 16, 32, *range(50, 401, 50)]
    assert checkpoint_steps(143_000, 143)[-1] == 143_000


def test_rates_fall_with_the_rank_and_the_papers_are_as_read_off():
    for rate in (whitened_rate, random_rate):
        rates = [rate(rank) for rank in settings("paper", None, "datasets:a/text").ranks]
        assert rates == sorted(rates, reverse=True)
    assert [random_rate(r) for r in (32, 64, 256, 512, 768)] == [2e-2, 1e-2, 1e-2, 7e-3, 5e-3]


def test_both_scales_have_a_recipe_for_every_model_and_head():
    small, paper = settings("small", None, None), settings("paper", "some/model", "datasets:a/text")
    for chosen in (small, paper):
        assert len({r.training.batch_size for r in chosen.family.values()}) == 1
        for start in (*chosen.starts, "own"):
            recipe = head_recipe(chosen.heads, 32, start, 2)
            assert recipe.seed == 2
            assert recipe.to_dict()["model"]["start"] == start
    assert list(paper.family) == [128, 256, 512, 768, 1024]


def test_a_power_law_is_found_again_where_the_frozen_constants_allow_none():
    rows = [
        replace(row, fitted=True, tokens=1e5, loss=9.0 * row.num_parameters**-0.05)
        for row in PYTHIA
    ]
    found = laws(rows)
    assert found.family == []
    assert "not above" in found.refused
    assert found.power[0].law.alpha == pytest.approx(0.05)
    assert found.power[0].law.A == pytest.approx(9.0)
