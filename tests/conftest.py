"""What every test starts with."""

import os
import sys

import pytest

# Some tests compare bits.  MKL's products may differ in the last one with the place in memory that
# their operands happen to have, unless it is told to be reproducible.
os.environ.setdefault("MKL_CBWR", "AUTO")


@pytest.fixture(autouse=True)
def _own_accelerate_state():
    """accelerate keeps for the process what its first user asked for, such as bfloat16."""
    yield
    if "accelerate.state" in sys.modules:
        from accelerate.state import AcceleratorState, GradientState

        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
