"""Strangers' files, by the thousand: what does wideneck make of them?"""

from bench.fuzz.main import main

__all__ = ["main"]
