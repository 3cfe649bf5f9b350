"""The ways in which the attention of a normalizer is computed, and why a call does not go by one.

    sdpa        PyTorch's fused attention, for softmaxes of changed scores
    flex        FlexAttention, for functions of each score by itself; a GPU
    adasplash   the kernels of that package, for entmax of a fixed alpha; a GPU
    dense       the scores formed, a block at a time, for everything

Each has one predicate.  What it asks of the normalizer, the model and the machine comes first, so
that `use` finds it out on a few tokens; what may differ from call to call comes last.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from wideneck.attention import splash
from wideneck.attention.by_key import ReLU, Sigmoid
from wideneck.attention.call import Call
from wideneck.attention.dense import dense_attention
from wideneck.attention.flex import flex_attention_of
from wideneck.attention.learned import LearnedNormalizer
from wideneck.attention.normalizer import Normalizer
from wideneck.attention.sdpa import sdpa_attention
from wideneck.attention.sink_kernels import kernel_of
from wideneck.attention.softmaxes import SoftmaxLike
from wideneck.errors import WideneckError

AUTO = "auto"
SHORT = 128
"""Queries below which a kernel of flex or adasplash gains nothing over the scores themselves."""
FEW = f"fewer than {SHORT} queries, whose scores are formed as fast"

WIDE = "its kernel computes in float32, and this is float64"
NARROWEST = 16
"""Width of a head in FlexAttention's kernel."""


@dataclass(frozen=True)
class Route:
    """How a call was computed."""

    name: str
    why_not: dict[str, str] = field(default_factory=dict)
    """By faster route, why not that one."""

    def __str__(self) -> str:
        reasons = "; ".join(f"not {name}: {why}" for name, why in self.why_not.items())
        return f"{self.name} ({reasons})" if reasons else self.name


def why_not_sdpa(call: Call, config: Normalizer) -> str | None:
    """PyTorch's fused attention: nothing but a softmax."""
    if not isinstance(config, SoftmaxLike):
        return f"{config.name} is no softmax of changed scores"
    if call.softcap is not None:
        return "the model caps its scores"
    if config.most is not None and call.sink is not None:
        return "the model's own sink may be among the k largest scores"
    return None


def why_not_flex(call: Call, config: Normalizer) -> str | None:
    """FlexAttention: what one score gives its key depends on no other."""
    if not isinstance(config, SoftmaxLike | Sigmoid | ReLU):
        return f"{config.name} looks at all scores of a query at once"
    if call.softcap is not None:
        return "the model caps its scores"
    if call.sink is not None and (not isinstance(config, SoftmaxLike) or config.most is not None):
        return "the model has a sink of its own"
    if call.query.device.type != "cuda":
        return f"its kernel has no backward pass on {_device(call)}"
    widths = {call.query.shape[-1], call.value.shape[-1]}
    if min(widths) < NARROWEST:
        return f"it takes heads of width {NARROWEST} or more, here {_listed(widths)}"
    if call.query.dtype == torch.float64:
        return WIDE
    if call.dropout:
        return "it has no dropout"
    return FEW if call.query.shape[2] < SHORT else None


def why_not_adasplash(call: Call, config: Normalizer) -> str | None:
    """The kernels of adasplash: a fixed entmax, no masks."""
    alpha = getattr(config, "alpha", None)
    if alpha is None:
        return f"{config.name} is no entmax"
    if isinstance(alpha, Tensor):
        return "alpha is learned"
    if not 1 < alpha <= 2:
        return f"it takes an alpha above 1 and up to 2, here it is {alpha:g}"
    if call.softcap is not None:
        return "the model caps its scores"
    if call.sink is not None:
        return "the model has a sink of its own"
    widths = {call.query.shape[-1], call.value.shape[-1]}
    if len(widths) > 1 or not widths <= set(splash.WIDTHS):
        return f"it takes heads of width 16, 32, 64, 128 or 256, here {_listed(widths)}"
    if call.query.device.type != "cuda":
        return f"its kernels are for GPUs, and this is {_device(call)}"
    if call.query.dtype == torch.float64:
        return WIDE
    if torch.compiler.is_compiling():
        return "its kernels are not known to compile"
    if not splash.is_there():
        return "adasplash 0.2 or later is not installed (pip install adasplash)"
    if call.query.shape[2] < SHORT:
        return FEW
    if call.dropout:
        return "it has no dropout"
    if call.mask is not None or call.query.shape[2] != call.key.shape[2]:
        return "it has no masks and no cached keys"
    return None


def why_not_dense(_call: Call, _config: Normalizer) -> str | None:
    """The scores themselves: always possible."""
    return None


@dataclass(frozen=True)
class _Way:
    why_not: Callable[[Call, Normalizer], str | None]
    attend: Callable[..., Tensor]


WAYS = {
    "sdpa": _Way(why_not_sdpa, sdpa_attention),
    "flex": _Way(why_not_flex, flex_attention_of),
    "adasplash": _Way(why_not_adasplash, splash.splash_attention),
    "dense": _Way(why_not_dense, dense_attention),
}

KERNELS = (AUTO, *WAYS)


def check_kernel(kernel: str) -> None:
    """Raises a WideneckError for what names no route."""
    if kernel not in KERNELS:
        raise WideneckError(f"kernel must be one of {', '.join(KERNELS)}, got {kernel!r}.")


def choose(call: Call, config: Normalizer, kernel: str = AUTO) -> Route:
    """The fastest route of a call, or the one that is named.

    Raises:
        WideneckError: the named route does not take the call; too few queries are no reason, and
            their scores are formed.
    """
    names = _order(call, config) if kernel == AUTO else (kernel, "dense")
    why_not: dict[str, str] = {}
    for name in names:
        why = WAYS[name].why_not(call, config)
        if why is None:
            return Route(name, why_not)
        if kernel == name and why != FEW:
            raise WideneckError(
                f"kernel={kernel!r} was asked for, which does not do this attention: {why}. Use "
                "kernel='auto', or another one."
            )
        why_not[name] = why
    raise AssertionError("dense takes every call")


def _order(call: Call, config: Normalizer) -> Sequence[str]:
    """The fastest first."""
    if isinstance(config, SoftmaxLike):
        # By sdpa top-k would keep a byte a score, and a sink without a kernel needs one more key.
        sink = config.sink is not None or call.sink is not None
        given = call.query, call.key, call.value, call.mask
        if config.most is not None or (sink and kernel_of(*given) is None):
            return ("flex", "sdpa", "dense")
    return tuple(WAYS)


def attend_by(route: Route, call: Call, config: Normalizer) -> Tensor:
    """Output (B, H, Q, Dv) of a call."""
    return WAYS[route.name].attend(call, config)


def routes_taken(model: nn.Module) -> dict[str, Route]:
    """By attention layer, the route of the model's last forward pass.

    Empty for a model under its own attention.
    """
    return {
        name.removesuffix(".normalizer"): module.route
        for name, module in model.named_modules()
        if isinstance(module, LearnedNormalizer) and module.route is not None
    }


def _device(call: Call) -> str:
    return f"a device of type {call.query.device.type!r}"


def _listed(widths: set[int]) -> str:
    return " and ".join(str(width) for width in sorted(widths))
