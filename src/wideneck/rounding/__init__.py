"""Formats that a matrix of weights is rounded to, and better choices than the nearest codes."""

from wideneck.rounding.format import Format as Format
from wideneck.rounding.formats import FORMATS as FORMATS
from wideneck.rounding.gptq import gptq as gptq
from wideneck.rounding.metric import row_errors as row_errors
from wideneck.rounding.scale_search import scale_search as scale_search
