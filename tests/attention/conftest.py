"""A GPU that is not there, for the choices that are made by its kind."""

import pytest
import torch

from wideneck.attention import splash


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(splash, "is_there", lambda: True)
