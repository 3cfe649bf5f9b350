"""A chart of the report as a file of its own, that stands on a white page and on a black one."""

from pathlib import Path

from wideneck.report.svg import Chart

# Greys and hues that both pages leave readable.
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #7d858e }
.label { fill: var(--k); font-weight: 600 } .end { text-anchor: end }
.middle { text-anchor: middle } .grid { stroke: #7d858e; opacity: .25; fill: none }
.base { stroke: #7d858e; fill: none } .line { stroke: var(--k); stroke-width: 1.6; fill: none }
.dashed { stroke-dasharray: 5 4 } .dot { fill: var(--k) } .whisker { stroke: var(--k); fill: none }
.ring { stroke: var(--k); fill: none } .muted { fill: #7d858e }
.rule { stroke: #7d858e; fill: none }
.c-raw { --k: #cc6a1f } .c-centred { --k: #3b87bd } .c-data { --k: #b05f9b }
.c-fisher { --k: #4c9a5b } .c-null { --k: #7d858e }
"""


def write_figure(path: Path, chart: Chart) -> None:
    """One file."""
    write_svg(path, str(chart.svg()))


def write_svg(path: Path, svg: str) -> None:
    """A drawing of the report with its own style."""
    opening, rest = svg.split(">", 1)
    opening = opening.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ')
    path.write_text(f"{opening}><style>{STYLE}</style>{rest}\n")
    print(f"Figure: {path}")
