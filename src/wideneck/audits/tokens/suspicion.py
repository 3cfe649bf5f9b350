"""Tokens in the order of suspicion: those that a text may hold, the least trained first."""

from collections.abc import Sequence

from torch import Tensor

from wideneck.audits.tokens.category import CLEAN, Category

SHARE = 0.02
"""Candidates are the lowest 2 % of the clean tokens (Land & Bartolo 2024, section 3.3)."""


def suspects(indicator: Tensor, categories: Sequence[Category] | None) -> list[int]:
    """Ids of the clean tokens, the most suspicious first; all ids where no category is known.

    Args:
        indicator: (V,), lower for a more suspicious token.
        categories: by id.
    """
    order = indicator.sort(stable=True).indices.tolist()
    return order if categories is None else [i for i in order if categories[i] in CLEAN]


def num_candidates(num_clean: int) -> int:
    """How many of the clean tokens are candidates."""
    return int(SHARE * num_clean)
