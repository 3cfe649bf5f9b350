"""What the guard of an attached head costs: of a training step, and of a generated token.

    python -m bench guard [--scale X]

Its work is some microseconds, far below what a step scatters by.  So it is timed alone, as the
difference between a call in its frames and the same call without, and compared with a step and a
token of the same run.
"""

from bench.parts import run_parts


def main(arguments: list[str]) -> None:
    run_parts("guard", ("call",), arguments)
