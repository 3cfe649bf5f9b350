"""The scaling law: planted constants, the paper's predictions, and tables that cannot be read."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from wideneck.errors import WideneckError
from wideneck.files.writing import json_text
from wideneck.lab.published import published_results
from wideneck.lab.registry import Request
from wideneck.lab.saturation.loss_table import COLUMNS, PYTHIA, LossRow, read_losses
from wideneck.lab.saturation.reproduction import reproduce
from wideneck.lab.saturation.scaling import (
    COUNTED,
    PUBLISHED,
    Law,
    compare,
    fit_law,
    given_laws,
    laws,
)

PREDICTED = [4.018, 3.658, 3.339, 3.079, 2.850]
"""The dashed curve of Figure 1b at 14M ... 410M, by the formula."""
AXIS = 2e-3
"""What three digits of the axis leave open of a prediction."""


def planted(law, counted, sizes=(1e8, 4e8, 1e9, 7e9), tokens=3e11):
    rows = []
    for i, size in enumerate(sizes):
        embeddings = int(size) // (3 + i)
        row = LossRow(
            name=f"model {i}",
            num_parameters=int(size),
            num_embedding_parameters=embeddings,
            tokens=tokens * (1 + i),
            loss=1.0,
            fitted=True,
        )
        counts = int(size) - (embeddings if counted == "non_embedding" else 0)
        rows.append(replace(row, loss=law.loss(counts, row.tokens)))
    return rows


@pytest.mark.parametrize("counted", COUNTED)
@pytest.mark.parametrize("law", [PUBLISHED, Law(A=406.4, alpha=0.34), Law(A=5.0, alpha=0.05)])
def test_planted_constants_are_found(law, counted):
    found = fit_law(planted(law, counted), counted)
    assert found.law.A == pytest.approx(law.A, rel=1e-6)
    assert found.law.alpha == pytest.approx(law.alpha, rel=1e-6)
    assert found.rms_residual == pytest.approx(0, abs=1e-8)
    assert found.mean_gap is found.mean_gap_percent is None


@pytest.mark.parametrize("counted", COUNTED)
def test_rows_left_out_do_not_move_the_fit_and_their_gaps_are_told(counted):
    rows = planted(PUBLISHED, counted)
    small = [
        replace(row, fitted=False, loss=row.loss * factor)
        for row, factor in zip(
            planted(PUBLISHED, counted, sizes=(1e7, 3e7)), (1.06, 1.1), strict=True
        )
    ]
    alone, found = fit_law(rows, counted), fit_law([*small, *rows], counted)
    assert found.law == alone.law
    assert found.mean_gap_percent == pytest.approx(8)
    gaps = found.rows[:2]
    assert [row.gap_percent for row in gaps] == pytest.approx([6, 10])
    for row in found.rows:
        assert row.gap == pytest.approx(row.loss - row.predicted)
    assert found.mean_gap == pytest.approx(sum(row.gap for row in gaps) / 2)
    assert [row.fitted for row in found.rows] == [False, False, True, True, True, True]


def test_one_wild_row_moves_the_fit_less_than_it_moves_a_line_through_the_logarithms():
    sizes = (1e8, 2e8, 4e8, 8e8, 1.6e9, 3.2e9)
    rows = planted(PUBLISHED, "total", sizes=sizes)
    rows[-1] = replace(rows[-1], loss=1.05 * rows[-1].loss)
    above = [row.loss - PUBLISHED.floor(row.tokens) for row in rows]
    line = -np.polyfit(np.log(sizes), np.log(above), 1)[0]
    moved = abs(fit_law(rows, "total").law.alpha - PUBLISHED.alpha)
    assert moved < 0.1 * abs(line - PUBLISHED.alpha)


def test_the_published_law_gives_the_dashed_curve_and_the_gaps_that_the_paper_names():
    found = laws(planted(PUBLISHED, "total")).published
    assert [row.predicted for row in found.rows] == pytest.approx(PREDICTED, abs=AXIS)
    # By the paper's constants, from its losses and the operations 6 N T on its axis.
    losses, operations = [4.363, 4.00, 3.635, 3.237], [2.53e19, 5.49e19, 1.27e20, 2.92e20]
    floor = 410.7 / 3e11**0.28 + 1.69
    percent = [
        100 * (loss / (119.09 / (work / 6 / 3e11) ** 0.246 + floor) - 1)
        for loss, work in zip(losses, operations, strict=True)
    ]
    large = 100 * (2.83 / (119.09 / 405_334_016**0.246 + floor) - 1)
    gaps = [row.gap_percent for row in found.rows]
    assert gaps == pytest.approx([*percent, large], rel=1e-5)
    assert found.mean_gap_percent == pytest.approx((sum(percent) + large) / 5, rel=1e-5)
    (said,) = published_results("saturation").find(row="final checkpoints")
    assert round(sum(gaps[:4]) / 4) == said.value == 8
    assert found.rms_residual is None


def test_most_of_a_small_pythia_is_embeddings():
    shares = [row.num_embedding_parameters / row.num_parameters for row in PYTHIA]
    assert [shares[i] for i in (0, 2, 3)] == pytest.approx([0.92, 0.73, 0.48], abs=0.005)
    # So the same law promises more loss, and finds less of a gap, where they are not counted.
    total, rest = (compare(PYTHIA, PUBLISHED, counted) for counted in COUNTED)
    assert all(a.gap > b.gap for a, b in zip(total.rows, rest.rows, strict=True))


def test_constants_and_losses_are_those_of_the_published_file():
    published = published_results("saturation")
    for row in published.find(table="section 3", data="Pythia, 410M and larger"):
        assert getattr(PUBLISHED, row.measure) == row.value
    final = published.find(table="Figure 1a", measure="final loss, nats")
    assert [(row.row, row.value) for row in final] == [(row.name, row.loss) for row in PYTHIA]


def test_the_models_of_the_paper_that_were_read_are_too_few_for_a_fit():
    with pytest.raises(WideneckError, match="at least 3 rows with fitted = true, got 0"):
        fit_law(PYTHIA, "total")


def test_a_fit_needs_models_of_different_sizes():
    rows = planted(PUBLISHED, "total", sizes=(1e8, 1e8, 1e8))
    with pytest.raises(WideneckError, match="same total parameters, 100,000,000"):
        fit_law(rows, "total")


def test_a_loss_at_the_floor_is_refused_where_it_is_fitted_and_only_there():
    rows = planted(PUBLISHED, "total")
    low = replace(rows[1], loss=PUBLISHED.floor(rows[1].tokens))
    with pytest.raises(WideneckError, match=r"model 1 has a loss of .* not above E"):
        fit_law([rows[0], low, *rows[2:]], "total")
    fit_law([rows[0], replace(low, fitted=False), *rows[2:]], "total")


def test_a_table_that_is_given_is_fitted_or_stands_beside_the_paper_s_law():
    law = Law(A=50.0, alpha=0.2)
    total, rest = given_laws(planted(law, "total"))
    assert (total.counted, rest.counted) == COUNTED
    assert (total.law.A, total.law.alpha) == pytest.approx((50.0, 0.2))
    rows = [replace(row, fitted=False) for row in planted(law, "total")]
    (beside,) = given_laws(rows)
    assert beside.law == PUBLISHED
    assert [gap.loss for gap in beside.rows] == [row.loss for row in rows]
    with pytest.raises(WideneckError, match="at least 3 rows with fitted = true, got 1"):
        given_laws([replace(rows[0], fitted=True), *rows[1:]])


def test_a_table_that_is_none_is_refused_before_a_folder_is_made(tmp_path):
    (tmp_path / "losses.csv").write_text("name\n")
    own = {"losses": tmp_path / "losses.csv"}
    request = Request(paper="saturation", own=own, out=tmp_path / "out")
    with pytest.raises(WideneckError, match=r"losses\.csv, line 1: expected the columns"):
        reproduce(request, lambda stage, done, total: None)
    assert not (tmp_path / "out").exists()


def test_a_fit_is_json():
    json_text(asdict(fit_law(planted(PUBLISHED, "total"), "total")))


HEADER = "name,num_parameters,num_embedding_parameters,tokens,loss,fitted\n"


def read(tmp_path, text):
    path = tmp_path / "losses.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_losses(path)


def test_a_table_is_read_as_it_was_written(tmp_path):
    lines = [
        f'"{row.name}",{row.num_parameters},{row.num_embedding_parameters},'
        f"{row.tokens!r},{row.loss!r},{str(row.fitted).lower()}\n"
        for row in PYTHIA
    ]
    assert read(tmp_path, HEADER + "".join(lines)) == PYTHIA
    assert read(tmp_path, b"\xef\xbb\xbf" + (HEADER + "".join(lines)).encode()) == PYTHIA


def test_columns_may_come_in_any_order_and_numbers_with_a_power_of_ten(tmp_path):
    (row,) = read(
        tmp_path,
        "fitted, loss, name, tokens, num_embedding_parameters, num_parameters\r\n"
        "True, 2.5, tied, 1e9, 0, 1.4e10\r\n",
    )
    assert (row.name, row.num_parameters, row.num_embedding_parameters) == ("tied", 14 * 10**9, 0)
    assert (row.tokens, row.loss, row.fitted) == (1e9, 2.5, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: expected the columns name,.*missing"),
        (HEADER, "holds no row"),
        (HEADER.replace(",fitted", ""), "line 1: .*fitted missing"),
        (HEADER.replace("loss", "los"), "line 1: .*no column 'los'. Did you mean 'loss'"),
        (HEADER.replace("\n", ",loss\n"), "line 1: .*a column comes twice"),
        (HEADER + "a,10,1,10,2,true\nb,10,1,10,2\n", "line 3: expected 6 values"),
        (HEADER + "a,10,1,10,2,true,9\n", "line 2: expected 6 values"),
        (HEADER + "a,10,1,10,-2,true\n", "line 2: loss needs a finite number > 0, got '-2'"),
        (HEADER + "a,10,1,10,nan,true\n", "line 2: loss needs a finite number > 0, got 'nan'"),
        (HEADER + "a,10,1,many,2,true\n", "line 2: tokens needs a finite number > 0, got 'many'"),
        (HEADER + "a,1e308,1,10,2,true\n", r"num_parameters needs a number of at most 1e\+30"),
        (HEADER + "a,10.5,1,10,2,true\n", "line 2: num_parameters needs a whole number"),
        (HEADER + "a,10,10,10,2,true\n", "line 2: num_parameters is the total"),
        (HEADER + "a,10,1,10,2,yes\n", "line 2: fitted needs true or false, got 'yes'"),
        (HEADER + ",10,1,10,2,true\n", "line 2: name needs a name"),
        (HEADER + '"a,10,1,10,2,true\n', "line 2: not CSV"),
        (HEADER.encode() + b"\xff\n", "is not UTF-8 text"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_with_its_line(tmp_path, text, said):
    with pytest.raises(WideneckError, match=said) as refused:
        read(tmp_path, text)
    assert "\n" not in str(refused.value)


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(WideneckError, match="no table of losses"):
        read_losses(tmp_path / "losses.csv")


def test_the_columns_are_the_fields_of_a_row():
    assert HEADER.strip().split(",") == COLUMNS
