"""A table as a text, row by row, with ranks, sums and averages computed beforehand.

From the paper (Wan et al. 2023, appendix A): the order by rows, that ranks, sums and averages are
computed beforehand, and tokens that mark the parts.  From the released script
(create_data2text_dataset.py, after PLOG): which marks, sums and averages before the cells, words of
cells with a capital, and two ranks, from the top (1, 2, ...) and from the bottom (-1, -2, ...).

Ours, where the script is unsound: a column has numbers if each of its cells holds exactly one
("7 (2)" holds two) with the same text around it ("500 mhz" and "1 ghz" do not compare), or dates if
each names a month; dates have ranks and no sums.  The script takes the first digits of any cell, so
that it adds up the days of dates, and gives no rank at all in a column that pandas reads as
numbers.  Sums are exact, and what ties has one rank, the best: in the script two maxima have rank
2.
"""

import re
from collections.abc import Sequence
from decimal import Decimal

MARKS = tuple(
    f"<{slash}{name}>"
    for name in (
        *("table", "caption", "cell", "col_header", "row_idx"),
        *("max_rank", "min_rank", "sum_cell", "avg_cell"),
    )
    for slash in ("", "/")
)
"""To be added to a tokenizer as tokens; the script adds those of captions not."""
MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
AVERAGE = 2
"""Decimals of an average beyond those of its sum."""
LONGEST = 15
"""Digits of a number; what has more is a name."""
_NUMBER = re.compile(r"(?:(?<!\S)[-+])?([0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?)(?:st|nd|rd|th)?")
_MONTH = re.compile(rf"\b({'|'.join(f'{m[:3]}(?:{m[3:]})?' for m in MONTHS)}|sept)\b")
_YEAR = re.compile(r"\b[0-9]{4}\b")
_DAY = re.compile(r"\b[0-9]{1,2}\b")


def serialized(
    caption: str, names: Sequence[str], rows: Sequence[Sequence[str]], columns: Sequence[int]
) -> str:
    """Some columns of a table.

    Args:
        caption: its title.
        names: of all columns.
        rows: a cell for each column.
        columns: which are written, in this order.
    """
    parts = [f"<table> <caption> {caption} </caption>"]
    ranks = {}
    for c in columns:
        cells = [row[c] for row in rows]
        header = f"<col_header> {names[c]} </col_header>"
        found = numbers(cells)
        if found:
            total = sum(found, Decimal())
            parts.append(f"<sum_cell> {_shown(total)} {header} </sum_cell>")
            parts.append(f"<avg_cell> {_shown(_mean(total, len(found)))} {header} </avg_cell>")
            ranks[c] = _ranks(found)
        else:
            dates = [date(cell) for cell in cells]
            ranks[c] = _ranks(dates) if all(dates) else [""] * len(cells)
    for i, row in enumerate(rows):
        for c in columns:
            parts.append(
                f"<cell> {_capitals(row[c])} <col_header> {names[c]} </col_header> "
                f"<row_idx> {i} </row_idx>{ranks[c][i]} </cell>"
            )
    return " ".join((*parts, "</table>"))


def numbers(cells: Sequence[str]) -> list[Decimal] | None:
    """The one number of each cell, where each has one, in the same unit or in none."""
    values, units = [], set()
    for cell in cells:
        found = list(_NUMBER.finditer(cell))
        if len(found) != 1 or sum(c.isdigit() for c in found[0][1]) > LONGEST:
            return None
        start, end = found[0].span()
        units.add((cell[:start].strip(), cell[end:].strip()))
        if cell[:start].rstrip().endswith("-"):  # a hyphen, or a minus that was set apart
            return None
        values.append(Decimal(found[0][1].replace(",", "")) * (-1 if found[0][0][0] == "-" else 1))
    return values if len(units) == 1 else None


def date(cell: str) -> tuple[int, int, int] | None:
    """Year, month and day of a cell that names a month; 0 for a year or a day that is not there."""
    text = cell.lower()
    month = _MONTH.search(text)
    if month is None:
        return None
    at = [m[:3] for m in MONTHS].index(month[0][:3]) + 1
    year, day = _YEAR.search(text), _DAY.search(text)
    return int(year[0]) if year else 0, at, int(day[0]) if day else 0


def _ranks(values: Sequence) -> list[str]:
    """Of each value, as text: from the top and from the bottom."""
    first = {value: rank for rank, value in reversed(list(enumerate(sorted(values), 1)))}
    last = {value: rank for rank, value in enumerate(sorted(values), 1)}
    return [
        f" <max_rank> {len(values) - last[value] + 1} </max_rank>"
        f" <min_rank> {-first[value]} </min_rank>"
        for value in values
    ]


def _mean(total: Decimal, count: int) -> Decimal:
    decimals = max(0, -int(total.as_tuple().exponent))
    return round(total / count, decimals + AVERAGE)


def _shown(value: Decimal) -> str:
    """Without zeros behind its last decimal."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _capitals(cell: str) -> str:
    return " ".join(word.capitalize() for word in cell.split(" "))
