"""Attention normalizers, fused attention and the audit's attention section.

    python -m bench attention                  everything, some 7 minutes on 2 quiet cores
    python -m bench attention rows fused       only these

Parts: rows (sparsemax and entmax beside the `entmax` package), fused (softmaxes of changed scores
beside PyTorch's attention), section (the audit at the paper's setting), scan (its critical N).
`pip install wideneck[dev]` brings entmax.  The tables are Markdown.

All times are of a forward and a backward pass unless said otherwise, in seconds; "ratio" is the
median over rounds of the time over the reference's in the same round.
"""

from bench.parts import run_parts

PARTS = ("rows", "fused", "section", "scan")


def main(arguments: list[str]) -> None:
    run_parts("attention", PARTS, arguments)
