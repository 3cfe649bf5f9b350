"""`python -m bench audit [CASE ...]`: run one benchmark and print its table."""

import sys

from bench import audit

BENCHES = {"audit": audit.main}


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in BENCHES:
        sys.exit(f"usage: python -m bench NAME [CASE ...], NAME one of: {', '.join(BENCHES)}")
    BENCHES[sys.argv[1]](sys.argv[2:])


main()
