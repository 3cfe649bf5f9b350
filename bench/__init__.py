"""Benchmarks: `python -m bench NAME`.  Run them on a quiet machine."""
