"""`python -m bench NAME [CASE ...]`: run one benchmark and print its tables."""

import os
import sys
from importlib import import_module
from typing import Any

BENCHES = (
    "attention",
    "attention-study",
    "audit",
    "fuzz",
    "golden",
    "gpu",
    "guard",
    "heads",
    "intervals",
    "low-rank",
    "memory",
    "mutants",
    "results",
    "study",
    "train",
)


def bench(name: str) -> Any:
    """The module of a benchmark; its `main` takes the arguments.

    The others are not loaded: some measure processes whose parent should be small.
    """
    return import_module(f"bench.{name.replace('-', '_')}")


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in BENCHES:
        sys.exit(f"usage: python -m bench NAME [CASE ...], NAME one of: {', '.join(BENCHES)}")
    if sys.argv[1].endswith("-study"):
        # Read when torch is loaded.  On a busy machine, threads that spin while they wait for one
        # another make a step ten times as long.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    bench(sys.argv[1]).main(sys.argv[2:])


if __name__ == "__main__":
    main()
