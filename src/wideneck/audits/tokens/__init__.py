"""Token health: what each token is to its tokenizer, and whether its rows were trained."""

from wideneck.audits.tokens.categories import categorize
from wideneck.audits.tokens.category import Category
from wideneck.audits.tokens.indicators import indicators
from wideneck.audits.tokens.suspicion import suspects

__all__ = ["Category", "categorize", "indicators", "suspects"]
