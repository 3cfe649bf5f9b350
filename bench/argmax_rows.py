"""Fresh random heads of every awkward kind, judged by an independent linear program.

    python -m bench audit rows             3,000 rows, seed of the clock, some minutes
    python -m bench audit rows=7           the same with this seed

For every row: maximise t with (w_i - w_j).x + b_i - b_j >= t l_j over all other rows j and
|x_k| <= box, each constraint over its own length l_j, by HiGHS. A verdict of the audit that the
program contradicts is a disagreement; what the audit calls undecided or a tie is none. Every
certificate and every state is checked again here, in numpy's long double.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linprog

from wideneck.audits.argmaxable import Argmaxable, find_unargmaxable, self_test_witness

CLEAR = 1e-4
"""A margin beyond it, over the length of the constraint, is no rounding of storage: a certificate
leaves over at most 6e-5 of the distance of its rows."""
NUM_ROWS = 60
KINDS = ("plain", "outliers", "near-duplicates", "hull", "duplicates", "all")


@dataclass
class Tally:
    """How many rows were called what."""

    rows: int = 0
    unargmaxable: int = 0
    undecided: int = 0
    ties: int = 0
    close: int = 0
    wrong: int = 0


def heads(seed: int) -> Iterator[tuple[str, torch.Tensor, torch.Tensor | None]]:
    """Heads of 60 rows without end: each kind in float32 and float64, with and without a bias."""
    generator = np.random.default_rng(seed)
    while True:
        for kind in KINDS:
            for dtype in (torch.float32, torch.float64):
                for with_bias in (False, True):
                    rows = torch.from_numpy(_rows(generator, kind)).to(dtype)
                    bias = torch.from_numpy(_bias(generator)).to(dtype) if with_bias else None
                    yield kind, rows, bias


def _rows(generator: np.random.Generator, kind: str) -> np.ndarray:
    width = int(generator.integers(2, 9))
    rows = generator.standard_normal((NUM_ROWS, width)) + generator.standard_normal(width)
    places = generator.permutation(NUM_ROWS)
    if kind in ("outliers", "all"):
        rows[places[:3]] *= 10.0 ** generator.choice([-8, -4, 4, 8], size=(3, 1))
    if kind in ("hull", "all"):
        share = generator.dirichlet(np.ones(8), size=8)
        rows[places[10:18]] = share @ rows[places[20:28]]
    if kind in ("near-duplicates", "all"):
        size = 10.0 ** -generator.integers(5, 10, size=(8, 1))
        rows[places[30:38]] = rows[places[40:48]] * (
            1 + size * generator.standard_normal((8, width))
        )
    if kind in ("duplicates", "all"):
        rows[places[50:55]] = rows[places[55:60]]
    return rows


def _bias(generator: np.random.Generator) -> np.ndarray:
    bias = generator.standard_normal(NUM_ROWS)
    bias[generator.integers(NUM_ROWS)] *= 10.0 ** generator.choice([-8, 8])
    return bias


def best_margins(rows: np.ndarray, bias: np.ndarray, box: float) -> np.ndarray:
    """The best t of every row, each constraint over its own length."""
    num_rows, width = rows.shape
    best = np.empty(num_rows)
    for i in range(num_rows):
        j = (rows != rows[i]).any(1) | (bias != bias[i])
        apart = np.column_stack([(rows[i] - rows[j]) * box, bias[i] - bias[j]])
        apart /= np.abs(apart).max(1, keepdims=True)
        solved = linprog(
            np.append(np.zeros(width), -1),
            A_ub=np.column_stack([-apart[:, :width], np.ones(j.sum())]),
            b_ub=apart[:, width],
            bounds=[(-1, 1)] * width + [(None, 1)],
            options={
                "primal_feasibility_tolerance": 1e-10,
                "dual_feasibility_tolerance": 1e-10,
            },
        )
        best[i] = np.nan if solved.x is None else solved.x[-1]
    return best


def recheck(rows: torch.Tensor, bias: torch.Tensor | None, found: Argmaxable) -> None:
    """Every certificate and every state again, from the formulas of the report alone."""
    weight = rows.double().numpy().astype(np.longdouble)
    b = np.zeros(len(weight), np.longdouble)
    if bias is not None:
        b = bias.double().numpy().astype(np.longdouble)
    box = 1 if found.box is None else found.box
    largest = np.abs(weight).max(1, keepdims=True)
    columns = np.sqrt(((weight / np.where(largest > 0, largest, 1)) ** 2).mean(0))
    columns[columns == 0] = 1
    sizes = (np.abs(weight) / columns).max(1)
    unit = found.tolerance

    for entry in found.unargmaxable:
        i, j = entry.token, entry.certificate.tokens
        a = np.array(entry.certificate.weights, np.longdouble)
        assert (a >= 0).all()
        assert abs(a.sum() - 1) < 1e-12
        assert i not in j
        size = sizes[i] + a @ sizes[j]
        beyond = np.abs(weight[i] - a @ weight[j]) - unit * (1 + 1e-6) * size * columns
        bias_part = b[i] - a @ b[j] - unit * (1 + 1e-6) * (abs(b[i]) + a @ abs(b[j]))
        assert box * np.maximum(beyond, 0).sum() + bias_part <= 0, f"certificate of {i}"

    states = {witness.token: np.array(witness.x) for witness in found.witnesses}
    others = {entry.token for entry in (*found.unargmaxable, *found.undecided)}
    others |= {token for tie in found.ties for token in tie.tokens[1:]} | set(states)
    rest = [i for i in range(len(weight)) if i not in others]
    for method in ("whitened", "plain") if found.num_distinct > 1 else ():
        tokens = [i for i in rest if (i in found.plain) == (method == "plain")]
        made = self_test_witness(rows, tokens, method, bias, box=found.box)
        states |= dict(zip(tokens, made.numpy(), strict=True))
    alike = {token: set(tie.tokens) for tie in found.ties for token in tie.tokens}
    for i, x in states.items():
        j = [k for k in range(len(weight)) if k not in alike.get(i, {i})]
        margin = (weight[i] - weight[j]) @ x + b[i] - b[j]
        tau = (sizes[i] + sizes[j]) * (columns @ np.abs(x)) + abs(b[i]) + abs(b[j])
        assert (margin > unit * (1 - 1e-6) * tau).all(), f"state of {i}"
        assert found.box is None or np.abs(x).max() <= box


def judge(rows: torch.Tensor, bias: torch.Tensor | None, tally: Tally) -> list[str]:
    """Adds one head to the tally; a line for every disagreement."""
    found = find_unargmaxable(rows, bias)
    recheck(rows, bias, found)
    weight = rows.double().numpy()
    b = np.zeros(len(weight)) if bias is None else bias.double().numpy()
    best = best_margins(weight, b, found.box or 1.0)
    inside = {entry.token for entry in found.unargmaxable}
    undecided = {entry.token for entry in found.undecided}
    tied = {token for tie in found.ties for token in tie.tokens}
    wrong = []
    for i, margin in enumerate(best):
        if i in undecided or i in tied:
            continue
        if np.isnan(margin) or (abs(margin) <= CLEAR and i not in inside):
            tally.close += 1  # the state was checked above
        elif (margin > CLEAR) == (i in inside):
            said = "cannot win" if i in inside else "can win"
            wrong.append(f"row {i} {said}, the program finds {margin:.2g}")
    tally.rows += len(weight)
    tally.unargmaxable += len(inside)
    tally.undecided += len(undecided)
    tally.ties += len(tied)
    tally.wrong += len(wrong)
    return wrong


def main(seed: int | None = None, num_rows: int = 3000) -> int:
    """Print the tally of this many rows; return the number of disagreements."""
    seed = time.time_ns() % 2**32 if seed is None else seed
    tally = Tally()
    for kind, rows, bias in heads(seed):
        for line in judge(rows, bias, tally):
            print(f"{kind}, {rows.dtype}, {'a' if bias is not None else 'no'} bias: {line}")
        if tally.rows >= num_rows:
            break
    print(f"seed {seed}: {tally}")
    return tally.wrong
