"""Set before torch is loaded."""

import os

# Some tests compare bits.  MKL's products may differ in the last one with the place in memory that
# their operands happen to have, unless it is told to be reproducible.
os.environ.setdefault("MKL_CBWR", "AUTO")
