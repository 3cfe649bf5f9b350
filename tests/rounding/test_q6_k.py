"""Q6_K: what the package reads, and that the search is worth its while."""

import gguf
import pytest
import torch

from wideneck.errors import WideneckError
from wideneck.rounding import FORMATS
from wideneck.rounding.q6_k import encoded, packed

Q6_K = FORMATS["Q6_K"]


def weights(scale=0.05):
    torch.manual_seed(0)
    weight = torch.randn(9, 512) * scale
    weight[1] = 0
    weight[2, 1:] = 0
    weight[3] *= torch.logspace(-4, 2, 512)
    weight[4, :256] = 0
    return weight


def nearest(weight):
    """Codes under the largest number of each group, the groups' scales rounded likewise."""
    blocks = weight.double().reshape(-1, 16, 16)
    step = blocks.abs().amax(2) / 31
    d = (step.amax(1, keepdim=True) / 127).half().double()
    step = (step / d.clamp_min(1e-30)).round() * d
    codes = (blocks / step.clamp_min(1e-30)[:, :, None]).round().clamp(-32, 31)
    return (codes * step[:, :, None]).reshape(weight.shape)


def test_the_package_reads_what_the_codes_say():
    weight = weights()
    d, scales, codes = encoded(weight.reshape(-1, 256))
    steps = (d.float() * scales.float()).repeat_interleave(16, 1)
    want = (steps * (codes.float() - 32)).reshape(weight.shape)
    stored = packed(d, scales, codes).numpy()
    assert stored.shape == (18, 210)
    read = gguf.dequantize(stored, gguf.GGMLQuantizationType.Q6_K)
    assert torch.equal(torch.from_numpy(read).reshape(weight.shape), want)
    assert torch.equal(Q6_K.rounded(weight), want)
    assert stored.nbytes == Q6_K.num_bytes(9, 512)


def test_the_error_is_below_that_of_the_nearest_codes():
    weight = weights()
    ours = (Q6_K.rounded(weight) - weight).double().square().sum()
    assert ours < 0.95 * (nearest(weight) - weight).square().sum()
    # Nearly that of a uniform step of the usual size.
    normal = (Q6_K.rounded(weight)[5:] - weight[5:]).double()
    assert normal.square().mean().sqrt() < 0.022 * weight[5:].std()


@pytest.mark.parametrize("scale", [0.05, 1e3])
def test_the_noise_is_a_little_less_than_that_of_its_steps(scale):
    """The search fits 16 numbers by one scale, which takes a sixth of the variance away."""
    weight = weights(scale)[5:]
    error = (Q6_K.rounded(weight) - weight).double().square().mean()
    assert 0.78 < error / Q6_K.variance(weight).double().mean() < 0.88


def test_zeros_stay_zeros():
    assert not Q6_K.rounded(weights())[1].any()
    assert not Q6_K.rounded(torch.zeros(2, 256)).any()


def test_rows_that_are_no_whole_blocks_are_refused():
    message = "576 columns are no multiple of the 256"
    assert message in Q6_K.refusal(10, 576)
    with pytest.raises(WideneckError, match=f"Q6_K does not fit this matrix: its {message}"):
        Q6_K.rounded(torch.zeros(10, 576))
