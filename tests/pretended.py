"""A pretended accelerator: a device of torch's own kind whose tensors live on the CPU.

Whoever mixes its tensors with those of the CPU fails as on CUDA, so an audit that runs on it makes
no tensor in the wrong place.  Importing this gives the whole process the device: tests start a
process of their own for it.
"""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import backend_registration
from torch.utils._pytree import tree_map


class _Module(backend_registration._DummyBackendModule):
    """What `torch.get_device_module` gives: a device that draws nothing."""

    def get_rng_state(self, _device):
        return torch.empty(0, dtype=torch.uint8)

    def set_rng_state(self, _state, _device):
        pass

    def manual_seed(self, _seed):
        pass

    def device(self, _device):
        return nullcontext()

    def get_amp_supported_dtype(self):
        return [torch.bfloat16]


backend_registration._setup_privateuseone_for_python_backend("pretended", backend_module=_Module())
DEVICE = torch.device("pretended:0")
TAKE_INDICES = (  # from the CPU, as on every device
    "aten::index.Tensor",
    "aten::index_put_",
    "aten::index_put",
    "aten::_index_put_impl_",
    "aten::copy_",
    "aten::_copy_from",
)


class Pretended(Tensor):
    """A tensor on the device; `held` is the same one on the CPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    held: Tensor

    @staticmethod
    def of(held):
        made = Tensor._make_wrapper_subclass(
            Pretended,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
            dispatch_sizes_strides_policy="sizes",  # asked for each time: out=... may resize
        )
        made.held = held
        return made

    def __repr__(self):
        return f"Pretended({self.held!r})"

    def __getitem__(self, index):
        return super().__getitem__(_without_lists(index))

    def __setitem__(self, index, value):
        super().__setitem__(_without_lists(index), value)

    def tolist(self):
        return self.held.tolist()

    def numpy(self, **_):
        raise TypeError("can't convert a tensor of a pretended device to numpy: use .cpu() first")

    __array__ = numpy

    @classmethod
    def __torch_dispatch__(cls, op, types, args=(), kwargs=None):
        return run(op, *args, **(kwargs or {}))


def _without_lists(index):
    parts = index if isinstance(index, tuple) else (index,)
    return tuple(_tensor(x) if isinstance(x, list) else x for x in parts)


def run(op: Any, *args: Any, **kwargs: Any) -> Any:
    """The operator on what the tensors hold."""
    name, pairs = op.name(), []
    to = kwargs.get("device")

    def held(x):
        if isinstance(x, Pretended):
            pairs.append((x.held, x))
            return x.held
        if isinstance(x, Tensor):
            pairs.append((x, x))
            if x.ndim and name not in TAKE_INDICES:
                raise RuntimeError(
                    f"Expected all tensors to be on the same device, {name} got one of shape "
                    f"{tuple(x.shape)} on the CPU."
                )
        if isinstance(x, torch.device) and x.type == DEVICE.type:
            return torch.device("cpu")
        if isinstance(x, torch.Generator):
            raise RuntimeError(f"{name} draws on the device with a generator of the CPU.")
        return x

    found = op(*tree_map(held, args), **tree_map(held, kwargs))

    def given(x):
        if not isinstance(x, Tensor):
            return x
        for inner, outer in pairs:
            if x is inner:
                return outer
        return x if to is not None and torch.device(to).type == "cpu" else Pretended.of(x)

    return tree_map(given, found)


def _made_on_the_cpu(factory):
    """A factory of torch that by itself makes nothing on a device of Python."""

    def make(data, *, device=None, **options):
        if isinstance(data, Pretended):
            data = data.to(**options)
        else:
            data = factory(data, **options)
        return data if device is None else data.to(device)

    return make


_tensor = torch.tensor
torch.tensor, torch.as_tensor = map(_made_on_the_cpu, (torch.tensor, torch.as_tensor))
_library = torch.library.Library("_", "IMPL")
_library.fallback(run, "PrivateUse1")


def moved(model):
    """A model with its weights and buffers on the device."""
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                there = nn.Parameter(weight.detach().to(DEVICE), requires_grad=False)
                module._parameters[name] = there
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else buffer.to(DEVICE)
    return model
