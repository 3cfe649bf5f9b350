"""`python -m bench NAME [CASE ...]`: run one benchmark and print its tables."""

import sys

from bench import (
    attention,
    attention_study,
    audit,
    fuzz,
    golden,
    guard,
    heads,
    intervals,
    memory,
    memory_study,
    mutants,
    results,
    study,
    train,
)

BENCHES = {
    "attention": attention.main,
    "attention-study": attention_study.main,
    "audit": audit.main,
    "fuzz": fuzz.main,
    "golden": golden.main,
    "guard": guard.main,
    "heads": heads.main,
    "intervals": intervals.main,
    "memory": memory.main,
    "memory-study": memory_study.main,
    "mutants": mutants.main,
    "results": results.main,
    "study": study.main,
    "train": train.main,
}


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in BENCHES:
        sys.exit(f"usage: python -m bench NAME [CASE ...], NAME one of: {', '.join(BENCHES)}")
    BENCHES[sys.argv[1]](sys.argv[2:])


if __name__ == "__main__":
    main()
