"""Formats that a matrix of weights is rounded to, and better choices than the nearest codes."""

from wideneck.rounding.format import Format as Format
from wideneck.rounding.formats import FORMATS as FORMATS
