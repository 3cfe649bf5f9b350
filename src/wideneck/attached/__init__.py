"""Heads of wideneck as the output layer of a causal language model of transformers.

Imports nothing by itself: `import wideneck` runs `registration`, which must load neither torch
nor transformers.
"""
