"""The losses of a window, from what enters the head, against logits that are written out."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from wideneck.audits.attention.reading import Reader
from wideneck.models import LogitMap


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("cap", [None, 0.8])
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_the_map_is_applied_to_the_logits_bias_included(scale, cap, has_bias):
    torch.manual_seed(0)
    head = torch.nn.Linear(4, 7, bias=has_bias)
    hidden, targets = torch.randn(2, 3, 4), torch.randint(7, (2, 3))
    model = SimpleNamespace(get_output_embeddings=lambda: head)
    found = Reader(model, LogitMap("any", scale, cap))._nll(hidden, targets)
    logits = scale * head(hidden).double()
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
    expected = F.cross_entropy(logits.mT, targets, reduction="none")
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
