"""The largest Jacobian norm of a row is over all queries, heads, layers and windows."""

import numpy as np
import pytest
import torch

from audits.attention.test_attention_section import SETTINGS, audited, model_of, windows_of


@torch.no_grad()
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_the_largest_norm_is_that_of_one_row(name):
    """By eigenvalues of (diag p - p p^T) / T from transformers' own maps, row by row."""
    model, windows = model_of(name), windows_of()
    found = audited(model, SETTINGS, windows)
    model.set_attn_implementation("eager")
    rows = [
        row
        for ids in windows.ids
        for layer in model(ids[None], output_attentions=True).attentions
        for row in layer[0].flatten(0, 1).double().numpy()
    ]
    norms = [np.linalg.eigvalsh(np.diag(p) - np.outer(p, p))[-1] / found.temperature for p in rows]
    own = [p for p in found.by_step if p.temperature == pytest.approx(found.temperature)]
    assert len(own) == len(SETTINGS.steps)
    for point in own:
        assert point.spectral_highest == pytest.approx(max(norms), rel=1e-4)
        assert point.spectral < point.spectral_highest
    for point in found.by_step:
        assert point.spectral_highest <= 0.5 / point.temperature * (1 + 1e-6)
