"""What a memory costs: its ranking loss, a training step, a generated token.

    python -m bench memory                     everything, some 10 minutes on 2 quiet cores
    python -m bench memory ranking step        only these

Parts: ranking (beside the released loop over offsets), growth (with the length), step (training,
with and without a memory), generation (beside the model as transformers has it).  The tables are
Markdown; times are in seconds, "ratio" is the median over rounds of the time over the reference's
in the same round.
"""

from bench.parts import run_parts

PARTS = ("ranking", "growth", "step", "generation")


def main(arguments: list[str]) -> None:
    run_parts("memory", PARTS, arguments)
