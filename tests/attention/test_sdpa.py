"""What PyTorch's attention is asked for on a GPU."""

import pytest
import torch
from calls import a_call, on_gpu
from torch.nn.attention import SDPBackend, sdpa_kernel

from wideneck.attention import sdpa
from wideneck.attention.sdpa import takes_groups


def of(call):
    return takes_groups(call.query, call.key, call.value, call.mask)


@pytest.mark.usefixtures("gpu")
def test_keys_stay_shared_where_a_fused_kernel_takes_them_so():
    """Asked to share keys in float32, PyTorch has no kernel left but the one that forms scores."""
    assert of(on_gpu())
    assert of(a_call())
    assert not of(on_gpu(torch.float32))
    assert not of(on_gpu(value_width=32))
    assert not of(on_gpu(mask=torch.ones(1, 1, 256, 256, dtype=torch.bool), causal=False))


@pytest.mark.usefixtures("gpu")
def test_a_kernel_that_the_user_has_turned_off_stays_off(monkeypatch):
    asked = []
    monkeypatch.setattr(sdpa, "sdpa_kernel", lambda which, set_priority: asked.append(which))
    query = on_gpu().query
    sdpa._best_kernel(query)
    with sdpa_kernel([SDPBackend.MATH, SDPBackend.FLASH_ATTENTION]):
        sdpa._best_kernel(query)
    assert asked[0][0] == SDPBackend.CUDNN_ATTENTION
    assert len(asked[0]) == 4
    assert asked[1] == [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]
