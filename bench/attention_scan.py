"""The scan for the critical N up to 100 at the paper's setting.

python -m bench.attention_scan SCALE        JSON on standard output
"""

from bench.attention_section import CONTEXT, run
from bench.parts import report, start, verdict
from wideneck.audits.attention.settings import AttentionSettings

LARGEST = 100


def main() -> None:
    context = round(CONTEXT * min(1.0, max(0.15, start())))
    settings = AttentionSettings(
        context=context,
        num_windows=1,
        num_queries=None,
        critical_up_to=LARGEST,
        ablation_context=0,
    )
    audit, seconds, _ = run(settings)
    rows = [
        [point.expectation, "none" if point.size is None else str(point.size)]
        for point in audit.critical
    ]
    report(
        f"{audit.num_layers * audit.num_heads} heads, length {context:,}, N = 1 to {LARGEST}, all "
        "three expectations, with the section; random weights, so the N found says nothing.",
        ("expectation", "critical N"),
        rows,
        [verdict("minutes", seconds / 60, 30)],
    )


if __name__ == "__main__":
    main()
