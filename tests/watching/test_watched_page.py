"""`wideneck watch`: a file of lines as a table, a page and notes."""

import json
from dataclasses import fields

import pytest

import wideneck as wn
from wideneck.commands.watch import watch
from wideneck.report.fields import definitions
from wideneck.report.watched import WatchReport, watch_report
from wideneck.report.watched_charts import PANELS
from wideneck.watching.notes import notes
from wideneck.watching.quantities import Watched


def written(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


LINES = [
    {"step": 1, "entropy": 4.0, "largest_score": 2.0, "loss": 4.5, "seconds": 1.5},
    {"step": 2, "loss": 4.25},
    {"step": 3, "entropy": 3.5, "largest_score": 60.0, "largest_above_mean": 12.0},
    {"step": 3, "valid_loss": 4.1, "epoch": 0.5, "entropy": None},
]


def test_lines_of_one_step_are_one_record(tmp_path):
    file = written(tmp_path / "lines", *LINES)
    with file.open("a") as more:
        more.write('{"step": 4, "entr')  # the run goes on
    report = watch_report(file)
    assert [step.step for step in report.steps] == [1, 2, 3]
    assert report.steps[2] == Watched(
        step=3, entropy=3.5, largest_score=60.0, largest_above_mean=12.0, valid_loss=4.1
    )


def test_the_page_has_a_curve_for_what_was_measured_twice_and_a_row_for_all(tmp_path, capsys):
    file, page = written(tmp_path / "lines", *LINES), tmp_path / "page.html"
    watch(file, html=page)
    printed, html = capsys.readouterr().out, page.read_text()
    assert "largest score" in printed
    assert "4.10" in printed
    for title in ("Loss", "Largest score", "Entropy of the predictions"):
        assert f"{title} at every step" in html
    assert "Stable rank at every step" not in html
    assert "From step 3 the largest score is above 50" in html
    assert "arXiv 2601.02031" in printed.replace("\n", " ")


def test_every_quantity_is_defined_and_drawn():
    defined = definitions(WatchReport)
    drawn = {quantity for _, _, lines in PANELS for _, _, quantity in lines}
    for field in fields(Watched):
        assert defined[f"steps[].{field.name}"]["definition"]
    left = {field.name for field in fields(Watched)} - drawn
    assert left == {"step", "tokens", "mean_row_norm", "bf16_margin"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"step": 1, "loss": 2.0}], "holds no watched step"),
        ([{"epoch": 1}], "no JSON with a step"),
        ([{"step": 1, "entropy": "high"}], "no file of watched steps"),
        ([], "holds no watched step"),
    ],
)
def test_files_of_something_else_are_refused(tmp_path, lines, message):
    with pytest.raises(wn.WideneckError, match=message):
        watch_report(written(tmp_path / "lines", *lines))
    with pytest.raises(wn.WideneckError, match="cannot be read"):
        watch_report(tmp_path / "nothing")


def shares(*values, every=100):
    return [Watched(step=1 + every * i, mean_row_share=x) for i, x in enumerate(values)]


def test_notes_are_of_thresholds_that_were_passed():
    assert notes(shares(0.02, 0.03, 0.039)) == []
    assert notes(shares(0.0001, 0.009)) == []  # what any start has
    assert "rose from 0.02 to 0.05" in notes(shares(0.02, 0.03, 0.05))[0]
    assert notes(shares(0.02, 0.03, 0.05, every=900)) == []
    (variance,) = notes([Watched(step=7, log_normalizer_variance=101.0)])
    assert variance.startswith("From step 7")
    shift, true = (
        notes([Watched(step=1, largest_score=90.0, largest_above_mean=x)])[0] for x in (8.0, 80.0)
    )
    assert "a shift of all scores" in shift
    assert "a shift" not in true


def ranked(*found):
    return [
        Watched(step=step, stable_rank_centred=rank, valid_loss=loss) for step, rank, loss in found
    ]


def test_a_rank_that_halves_is_noted_only_where_the_held_out_loss_rises():
    assert notes(ranked((1, 10.0, 4.0), (2, 4.0, 3.0))) == []
    assert notes(ranked((1, 10.0, 4.0), (2, 6.0, 5.0))) == []
    assert "fell from 10 to 4 while" in notes(ranked((1, 10.0, 4.0), (2, 4.0, 5.0)))[0]
