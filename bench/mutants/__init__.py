"""Wrong formulas, one at a time: does a test tell?"""

from bench.mutants.main import main

__all__ = ["main"]
