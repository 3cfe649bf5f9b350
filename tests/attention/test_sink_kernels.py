"""Which of PyTorch's kernels may take a call with a sink."""

import pytest
import torch
from calls import on_gpu

from wideneck.attention import sink_kernels


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("capability", "width", "kernel"),
    [
        ((9, 0), 208, "FLASH"),
        ((8, 0), 208, "FLASH"),
        ((8, 6), 192, "FLASH"),
        ((8, 6), 256, "FLASH"),
        ((8, 6), 200, "EFFICIENT"),
        ((8, 9), 224, "EFFICIENT"),
        ((12, 0), 208, "EFFICIENT"),
        ((7, 5), 64, "EFFICIENT"),
    ],
)
def test_a_kernel_without_a_backward_pass_on_the_gpu_is_not_taken(
    capability, width, kernel, monkeypatch
):
    """As PyTorch's own dispatch has it: check_requires_grad_and_head_dim_gt192_..._sm86_89."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    call = on_gpu(width=width)
    found = sink_kernels.kernel_of(call.query, call.key, call.value, call.mask)
    assert found is getattr(sink_kernels, kernel)
