"""What several tests of the fused loss start from."""

import pytest

from wideneck.functional import products, scores


@pytest.fixture
def _rounded(monkeypatch):
    """As on tensor cores, on any CPU and without its units for bfloat16."""
    monkeypatch.setattr(products, "_cpu_has_units", lambda: False)
    monkeypatch.setattr(scores, "kind_for", lambda device, narrow: "rounded" if narrow else "wide")
