"""What a process needs to find the same bits again."""

import os


def same_bits() -> None:
    """Products must not depend on where their operands happen to lie in memory.

    MKL reads this when it is loaded, so it comes before torch; processes that are started inherit
    it.
    """
    os.environ.setdefault("MKL_CBWR", "AUTO")
