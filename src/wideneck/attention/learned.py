"""What a normalizer learns, as parameters of an attention layer, and `build` for any other use."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, final

import torch
from torch import Tensor, nn

from wideneck.attention.config import Normalizer, normalizer_config
from wideneck.attention.normalizing import normalize
from wideneck.errors import WideneckError
from wideneck.registry import NOT_A_TENSOR


@final
class LearnedNormalizer(nn.Module):
    """A normalizer whose learned numbers, its `learns`, are float32 parameters.

    Each has a number for every head, (H,), or, where they are made of hidden states, as those of
    asentmax, a vector (H, hidden_size).
    """

    def __init__(
        self,
        config: Normalizer,
        num_heads: int,
        hidden_size: int | None = None,
        device: Any = None,
    ):
        super().__init__()
        _check(config, num_heads, hidden_size)
        self.config, self.num_heads = config, num_heads
        self.hidden_size = hidden_size if config.reads_hidden else None
        self.hook: Any = None
        """Takes hidden states in, in a model; see `note_hidden`."""
        self.kernel = "auto"
        """The route that `use` was asked for."""
        self.route: Any = None
        """That of the last call in a model, a `wideneck.attention.routes.Route`."""
        self.names = config.learns
        shape = (num_heads,) if self.hidden_size is None else (num_heads, self.hidden_size)
        for name in self.names:
            empty = torch.empty(shape, device=device, dtype=torch.float32)
            self.register_parameter(name, nn.Parameter(empty))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """The config's numbers."""
        for name in self.names:
            getattr(self, name).fill_(self.config.start_of(name))

    def numbers(self, hidden: Tensor | None = None) -> Normalizer:
        """The config with the present numbers, for scores (B, H, Q, K).

        Args:
            hidden: (B, Q, hidden_size), what enters the attention layer; where it is read only.

        Returns:
            The config with tensors of shape (H, 1, 1), or (B, H, Q, 1) where hidden is read.

        Raises:
            WideneckError: no hidden states, or others, where they are read.
        """
        if not self.names:
            return self.config
        raw: dict[str, Tensor] = {name: getattr(self, name) for name in self.names}
        if not self.config.reads_hidden:
            return self.config.learning({name: x[:, None, None] for name, x in raw.items()})
        if hidden is None or hidden.ndim != 3 or hidden.shape[-1] != self.hidden_size:
            came = "none" if hidden is None else tuple(hidden.shape)
            raise WideneckError(
                f"{self.config.name} reads hidden states of shape (B, Q, {self.hidden_size}), got "
                f"{came}."
            )
        wide = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
        read = {name: (x.to(wide.dtype) @ wide.mT)[..., None] for name, x in raw.items()}
        return self.config.learning(read)

    def forward(
        self, scores: Tensor | None, mask: Tensor | None = None, hidden: Tensor | None = None
    ) -> Any:
        """Weights of scores (..., H, Q, K), as `wideneck.attention.normalize` gives them.

        Args:
            scores: already scaled by 1 / sqrt(d).  None for `numbers(hidden)` in their place:
                weights that are offloaded or sharded are there in a module's call only.
            mask: boolean, True where a key is visible, broadcastable to the scores.
            hidden: (B, Q, hidden_size), for asentmax only.

        Raises:
            WideneckError: another number of heads; what `normalize` and `numbers` refuse.
        """
        if scores is None:
            return self.numbers(hidden)
        if self.names and (scores.ndim < 3 or scores.shape[-3] != self.num_heads):
            raise WideneckError(
                f"This normalizer learns for {self.num_heads} heads and needs scores (..., H, Q, "
                f"K), got {tuple(scores.shape)}."
            )
        return normalize(scores, self.numbers(hidden), mask)

    def extra_repr(self) -> str:
        return f"{self.config}, num_heads={self.num_heads}"


def build(
    normalizer: str | dict | Normalizer,
    *,
    num_heads: int,
    hidden_size: int | None = None,
    device: Any = None,
    **parameters: Any,
) -> LearnedNormalizer:
    """A normalizer as a module, with its learned numbers as parameters.

    Args:
        normalizer: a name in `wideneck.attention.names()`, a config or its dictionary.
        num_heads: H; each has numbers of its own.
        hidden_size: width of the hidden states that asentmax reads.
        device: of the parameters, which are float32 under every default type.
        parameters: fields of the config, plain numbers: where the learned ones start.

    Raises:
        WideneckError: an unknown normalizer or parameter; tensors among them; a learned alpha that
            does not start between 1 and 2; an asentmax without hidden_size.
    """
    config = normalizer_config(normalizer, **parameters)
    return LearnedNormalizer(config, num_heads, hidden_size, device)


def check_start(config: Normalizer) -> None:
    """Refuse a config that a module cannot start from."""
    for field in fields(config):
        if not isinstance(getattr(config, field.name), NOT_A_TENSOR):
            raise WideneckError(
                f"A {config.name} that learns starts from a number for {field.name}, got a tensor: "
                "set the module's parameter after it is made."
            )
    config.check_start()


def _check(config: Normalizer, num_heads: int, hidden_size: int | None) -> None:
    check_start(config)
    for label, size in (("num_heads", num_heads), ("hidden_size", hidden_size)):
        if size is None and not config.reads_hidden:
            continue
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise WideneckError(
                f"{config.name} needs a whole number >= 1 for {label}, got {size!r}."
            )


class _Entered(threading.local):
    """The attention layer that this thread has entered last, and its hidden states."""

    module: nn.Module | None = None
    hidden: Tensor | None = None


_entered = _Entered()


def note_hidden(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
    """A forward pre-hook of an attention layer: its hidden states, for the call that follows."""
    _entered.module = module
    _entered.hidden = args[0] if args else kwargs.get("hidden_states")


def take_hidden(module: nn.Module) -> Tensor | None:
    """What has entered the layer, once; None where it is not known."""
    if _entered.module is not module:
        return None
    hidden, _entered.module, _entered.hidden = _entered.hidden, None, None
    return hidden


class _Finding(threading.local):
    config: Normalizer | None = None
    found: dict[nn.Module, int] | None = None


_finding = _Finding()


@contextmanager
def finding(config: Normalizer) -> Iterator[dict[nn.Module, int]]:
    """Inside, a layer without a normalizer gets one of this config, and is noted with its heads."""
    _finding.config, _finding.found = config, {}
    try:
        yield _finding.found
    finally:
        _finding.config = _finding.found = None


def newcomer(module: nn.Module, num_heads: int) -> LearnedNormalizer:
    """The normalizer of a layer that has none yet.

    Raises:
        WideneckError: no probe is under way, or the layer has something else of that name.
    """
    name = type(module).__name__
    if _finding.found is None or _finding.config is None:
        raise WideneckError(
            f"A {name} of this model has no normalizer: set it with wideneck.attention.use, and "
            "load saved models with wideneck.load."
        )
    if hasattr(module, "normalizer"):
        raise WideneckError(
            f"{name} has a part called 'normalizer' of its own, so wideneck cannot put one there."
        )
    normalizer = LearnedNormalizer(_finding.config, num_heads)
    module.normalizer = normalizer
    _finding.found[module] = num_heads
    return normalizer
