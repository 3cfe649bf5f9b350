"""What bfloat16 products ask of an accelerator: kernels, memory and waits, on the meta device."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import wideneck as wn
from wideneck.functional import apart, chunks, scores
from wideneck.functional.shard import WHOLE


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class _Trace(TorchDispatchMode):
    """What runs on the meta device: products, waits, and the largest float32 tensors."""

    def __init__(self):
        super().__init__()
        self.names, self.products, self.large = [], [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.names.append(str(func))
        if "mm" in str(func):
            self.products.append(str(func))
        if isinstance(out, torch.Tensor) and out.numel() >= 2**24:
            self.large.append((str(func), tuple(out.shape), out.dtype))
        return out


@pytest.mark.parametrize("z_loss", [0.0, 1e-4])
def test_a_step_of_gemmas_size_multiplies_on_tensor_cores_only_and_never_waits(z_loss, monkeypatch):
    N, D, V = 8192, 2304, 256_000
    monkeypatch.setattr(chunks, "memory_of", lambda device: 149 * 10**9)
    monkeypatch.setattr(scores, "kind_for", lambda device, narrow: "tensor cores")
    passes = []

    def weigh(z, form, anchor, column, room, rest, *, sums):  # one kernel, which meta cannot show
        passes.append(z.numel() * z.element_size() + room.numel() * room.element_size())
        return z.new_empty(len(z)), z.new_empty(len(z), 0)

    monkeypatch.setattr(apart, "_weigh", weigh)
    x = torch.empty(N, D, dtype=torch.bfloat16, device="meta", requires_grad=True)
    W = torch.empty(V, D, dtype=torch.bfloat16, device="meta", requires_grad=True)
    target = torch.empty(N, dtype=torch.long, device="meta")
    with _Trace() as seen:
        loss = wn.linear_cross_entropy(x, W, target, z_loss=z_loss)
        loss.backward()
    assert set(seen.products) == {"aten.mm.dtype_out", "aten.mm.dtype", "aten.addmm.dtype_out"}
    assert len(seen.products) == 3 * 3  # chunks of 2,816, 2,816 and 2,560 rows
    assert not [name for name in seen.names if "nonzero" in name or "local_scalar" in name]
    assert sum(passes) == 6 * N * V
    wide = [(name, shape) for name, shape, dtype in seen.large if dtype == torch.float32]
    assert {shape for _, shape in wide if shape[-1] == D} <= {(V, D), (N, 1, D), (N, D)}
    assert [name for name, shape in wide if shape == (V, D)].count("aten.mm.dtype") == 1
    assert W.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("mixture", [False, True])
def test_a_second_look_takes_no_memory_of_a_chunk(mixture, monkeypatch):
    """Sigmoid on tensor cores: scores in float32, G, and nothing else of their size."""
    monkeypatch.setattr(scores, "kind_for", lambda device, narrow: "tensor cores")
    looks = []

    def weigh(z, form, anchor, column, room, rest, *, sums=False, factor=None):
        looks.append((room is None, factor is None))
        return z.new_empty(len(z)), z.new_empty(len(z), 0)

    monkeypatch.setattr(apart, "_weigh", weigh)
    N, D, V = 1024, 8, 2**16
    shape = (N // 2, 2) if mixture else (N,)
    x = torch.empty(*shape, D, dtype=torch.bfloat16, device="meta", requires_grad=True)
    W = torch.empty(V, D, dtype=torch.bfloat16, device="meta", requires_grad=True)
    prior = torch.empty(shape, device="meta") if mixture else None
    target = torch.empty(shape[0], dtype=torch.long, device="meta")
    with _Trace() as seen:
        wn.linear_cross_entropy(x, W, target, activation="sigmoid", log_prior=prior).backward()
    assert looks
    assert looks == [(True, True), (False, False)] * (len(looks) // 2)
    views = {"aten.slice.Tensor", "aten.view.default", "aten.permute.default"}
    large = [name for name, _, _ in seen.large if name not in views]
    assert large == ["aten.empty.memory_format", "aten.empty_like.default", "aten.mm.dtype_out"]


def test_scores_that_are_looked_at_again_are_rounded_where_they_go(monkeypatch):
    """On tensor cores: no third copy of a chunk."""
    monkeypatch.setattr(scores, "kind_for", lambda device, narrow: "tensor cores")
    X, W = (torch.empty(*n, dtype=torch.bfloat16, device="meta") for n in ((64, 1, 8), (300, 8)))
    some = scores.Scores(X, W, None, scores.Kept(64), WHOLE, None, narrow=True)
    z = some.space.view(64, 300)
    with _Trace() as seen:
        assert some.as_factor(z).dtype == torch.bfloat16
    assert not [name for name in seen.names if "to_copy" in name]
