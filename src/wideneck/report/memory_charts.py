"""The chart of the memory section: how high the next token ranks, by depth."""

from wideneck.audits.memory.results import MemoryAudit
from wideneck.report.axes import linear
from wideneck.report.charts import depth_axis
from wideneck.report.memory_tables import BASELINES
from wideneck.report.svg import Chart, Line, Rule


def rank_chart(audit: MemoryAudit) -> Chart | None:
    """Mean reciprocal rank of the target by layer, beside ranks without hidden states."""
    if audit.baselines is None or not audit.layers:
        return None
    depth = range(len(audit.layers))
    lines = []
    for name, color in (("dot", "c-raw"), ("cosine", "c-centred")):
        found = [getattr(layer, name).reciprocal_rank.value for layer in audit.layers]
        lines.append(Line(name, color, depth, found, markers="dot"))
    rules = [
        Rule(label, getattr(audit.baselines, name).reciprocal_rank.value)
        for name, label in BASELINES.items()
    ]
    rules.append(Rule("chance", audit.baselines.chance.value))
    last = len(depth) - 1
    if last:
        rules.append(Rule("final norm", last - 0.5, vertical=True))
    values = [*(y for line in lines for y in line.y), *(r.at for r in rules if not r.vertical)]
    return Chart(
        "Reciprocal rank of the next token",
        "Mean reciprocal rank of the next token among the distinct tokens of the context at each "
        "depth, by dot product and by cosine of hidden states, with ranks by recency, by "
        "frequency, by token identity and by chance as level lines; the last point is what enters "
        "the head, after the final norm.",
        depth_axis(len(depth)),
        linear("mean reciprocal rank", [0, *values], low=0),
        lines,
        rules,
    )
