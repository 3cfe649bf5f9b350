"""A report as one HTML file: inline style, inline SVG, no script, nothing fetched.

Strings of models and tokens come from strangers' files, so the templates escape everything that
is not marked as made here.
"""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from wideneck.audit.output import OutputAudit
from wideneck.report import charts, tables
from wideneck.report.figures import head_figures, output_figures, token_figures, width
from wideneck.report.numbers import interval, number, pretty, value, visible
from wideneck.report.reference import Reference
from wideneck.report.report import Report
from wideneck.report.series import SeriesReport
from wideneck.report.series_charts import series_charts, series_table
from wideneck.report.summary import sentences, series_sentences
from wideneck.report.tokens import proofs, token_lists


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
    }
    return found


def render(report: Report) -> str:
    """The HTML of one audit."""
    head, output = report.head, report.output
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            reference=Reference(report),
            sentences=sentences(report),
            charts=charts,
            tables=tables,
            head_figures=[] if head is None else head_figures(head),
            token_figures=[] if head is None else token_figures(head),
            output_figures=[] if output is None else output_figures(output, width(report)),
            token_lists=[] if head is None else token_lists(head),
            proofs=[] if head is None or head.argmaxable is None else proofs(head.argmaxable),
            cost_charts=[] if output is None else _cost_charts(output, width(report)),
        )
    )


def render_series(report: SeriesReport) -> str:
    """The HTML of a series of checkpoints."""
    return (
        environment()
        .get_template("series.html.j2")
        .render(
            report=report,
            reference=Reference(report),
            sentences=series_sentences(report),
            charts=series_charts(report),
            table=series_table(report),
        )
    )


def _cost_charts(output: OutputAudit, hidden_size: int) -> list[charts.Chart]:
    found = [
        charts.cost_chart(
            output, hidden_size, ("whitened", "fisher"), "Truncations that know the data"
        ),
        charts.cost_chart(output, hidden_size, ("plain", "centred"), "Truncations that do not"),
    ]
    return [chart for chart in found if chart is not None]
