"""What training costs: a mixture's part of a step, a whole step, a head alone, an interruption.

    python -m bench train                      everything, some 5 minutes on 2 quiet cores
    python -m bench train head states          only these
    python -m bench train --scale 0.1          small sizes, to see that it runs

Parts: head (MoSS, K = 10, in an AWD-LSTM, beside its matrix products), step (a whole step with
MoS, K = 15, beside the head written plainly; time and peak memory), states (a head alone on cached
states, beside its matrix products), resume (checkpoints, and how soon an interrupted run goes on),
accelerator (whole steps at the papers' sizes, where there is one).
The tables are Markdown; "x floor" and "x plain" are medians over rounds of the time over the
reference's in the same round, "of minima" the ratio of the two shortest times.
"""

from bench.parts import run_parts

PARTS = ("head", "step", "states", "resume", "accelerator")


def main(arguments: list[str]) -> None:
    run_parts("train", PARTS, arguments)
