"""A report as one HTML file: inline style, inline SVG, no script, nothing fetched.

Strings of models and tokens come from strangers' files, so the templates escape everything that
is not marked as made here, and the whole page passes through `printable`.  Its own policy forbids a
browser to run or fetch anything.
"""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from wideneck.audits.output import OutputAudit
from wideneck.files.printable import printable
from wideneck.report import (
    attention_charts,
    attention_maps,
    attention_tables,
    charts,
    memory_charts,
    memory_tables,
    tables,
)
from wideneck.report.attention_figures import attention_figures
from wideneck.report.figures import head_figures, output_figures, token_figures
from wideneck.report.heatmap import NAMED
from wideneck.report.memory_figures import memory_figures
from wideneck.report.numbers import basis, interval, number, pretty, value, visible
from wideneck.report.reference import Reference
from wideneck.report.report import Report
from wideneck.report.series import SeriesReport
from wideneck.report.series_charts import series_charts, series_table
from wideneck.report.summary import paragraphs, series_paragraphs
from wideneck.report.tokens import proofs, token_lists

LEGEND = (
    "Dots: measured, with 95 % intervals. Rings: predicted. Dotted: what it costs to predict "
    "from the frequencies of the text alone, or uniformly. Losses under 0.001 nat are not drawn. "
    "The prediction is"
)


@cache
def environment() -> Environment:
    """Templates with escaping on, and an error for every name that is not there."""
    found = Environment(
        loader=PackageLoader("wideneck.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "pretty": pretty,
        "number": number,
        "visible": visible,
        "value": value,
        "interval": interval,
        "basis": basis,
    }
    return found


def render(report: Report) -> str:
    """The HTML of one audit."""
    head, output, reference = report.head, report.output, Reference(report)
    attention, memory = report.attention, report.memory
    return _page(
        "report.html.j2",
        report=report,
        reference=reference,
        paragraphs=paragraphs(report),
        charts=charts,
        tables=tables,
        head_figures=[] if head is None else head_figures(head),
        token_figures=[] if head is None else token_figures(head),
        output_figures=[] if output is None else output_figures(output),
        attention_figures=[] if attention is None else attention_figures(attention),
        attention_charts=attention_charts,
        attention_maps=attention_maps,
        attention_tables=attention_tables,
        most_named=NAMED,
        memory_figures=[] if memory is None else memory_figures(memory),
        memory_charts=memory_charts,
        memory_tables=memory_tables,
        token_lists=[] if head is None else token_lists(head),
        proofs=[] if head is None or head.argmaxable is None else proofs(head.argmaxable),
        cost_charts=[] if output is None else _cost_charts(output, reference),
    )


def render_series(report: SeriesReport) -> str:
    """The HTML of a series of checkpoints."""
    return _page(
        "series.html.j2",
        report=report,
        reference=Reference(report),
        paragraphs=series_paragraphs(report),
        charts=series_charts(report),
        table=series_table(report),
    )


def _page(template: str, **content: Any) -> str:
    """A template filled in: no character in it that does not print but our own spaces."""
    return printable(environment().get_template(template).render(**content), keep="\n\u00a0")


def _cost_charts(output: OutputAudit, reference: Reference) -> list[tuple[charts.Chart, str]]:
    """The panels with what is to be said under each."""
    if not output.rank_cost.points:
        return []
    caution = reference["output.rank_cost.points[].predicted"].caution
    panels = (
        (
            ("whitened", "fisher"),
            "Truncations fitted to the data",
            f"{LEGEND} {caution[0].lower()}{caution[1:]}",
        ),
        (
            ("plain", "centred"),
            "Truncations of the weights alone",
            reference["output.rank_cost.points"].caution,
        ),
    )
    found = []
    for methods, title, about in panels:
        chart = charts.cost_chart(output, methods, title)
        if chart is not None:
            found.append((chart, about))
    return found
