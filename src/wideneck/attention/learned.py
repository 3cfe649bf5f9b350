"""What a normalizer learns, as parameters of an attention layer, and `build` for any other use."""

import math
import threading
from dataclasses import fields, replace
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wideneck.attention import config as c
from wideneck.attention.normalizing import normalize
from wideneck.errors import WideneckError
from wideneck.registry import NOT_A_TENSOR


@final
class LearnedNormalizer(nn.Module):
    """A normalizer whose learned numbers are float32 parameters, one of each per head.

    `logit` (H,) of a sink; `scale` and, unless the config's is 0, `bias` (H,) of ssmax;
    `raw_alpha` (H,) of entmax, with alpha = 1 + sigmoid(raw_alpha); `beta` and `gamma`
    (H, hidden_size) of asentmax, the w and v of its config.  Nothing where the config has
    `learned=False` or no such numbers.
    """

    def __init__(
        self,
        config: c.Normalizer,
        num_heads: int,
        hidden_size: int | None = None,
        device: Any = None,
    ):
        super().__init__()
        _check(config, num_heads, hidden_size)
        self.config, self.num_heads = config, num_heads
        self.hidden_size = hidden_size if isinstance(config, c.ASEntmax) else None
        self.hook: Any = None
        """Takes hidden states in, in a model and for asentmax; see `note_hidden`."""
        self.names = _learned(config)
        shape = (num_heads,) if self.hidden_size is None else (num_heads, self.hidden_size)
        for name in self.names:
            empty = torch.empty(shape, device=device, dtype=torch.float32)
            self.register_parameter(name, nn.Parameter(empty))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """The config's numbers; asentmax starts where no head looks at its hidden state."""
        for name in self.names:
            parameter = getattr(self, name)
            if name in ("beta", "gamma"):
                parameter.zero_()
            elif name == "raw_alpha":
                share = self.config.alpha - 1  # pyrefly: ignore[missing-attribute]
                parameter.fill_(math.log(share / (1 - share)))
            else:
                parameter.fill_(getattr(self.config, name))

    def numbers(self, hidden: Tensor | None = None) -> c.Normalizer:
        """The config with the present numbers, for scores (B, H, Q, K).

        Args:
            hidden: (B, Q, hidden_size), what enters the attention layer; for asentmax only.

        Returns:
            The config with tensors of shape (H, 1, 1), for asentmax (B, H, Q, 1).

        Raises:
            WideneckError: an asentmax without hidden states.
        """
        if isinstance(self.config, c.ASEntmax):
            beta, gamma = self._adaptive(hidden)
            return replace(self.config, beta=beta, gamma=gamma)
        if not self.names:
            return self.config
        per_head = {name: getattr(self, name)[:, None, None] for name in self.names}
        if "raw_alpha" in per_head:
            per_head = {"alpha": 1 + torch.sigmoid(per_head["raw_alpha"])}
        return replace(self.config, **per_head)

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

    def _adaptive(self, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        if hidden is None or hidden.ndim != 3 or hidden.shape[-1] != self.hidden_size:
            came = "none" if hidden is None else tuple(hidden.shape)
            raise WideneckError(
                f"asentmax reads hidden states of shape (B, Q, {self.hidden_size}), got {came}."
            )
        wide = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
        weights: tuple[Any, Any] = (self.beta, self.gamma)
        beta, gamma = (
            (weight.to(wide.dtype) @ wide.mT)[..., None]  # (B, H, Q, 1)
            for weight in weights
        )
        reach = self.config.reach  # pyrefly: ignore[missing-attribute]
        return F.softplus(beta), reach * torch.tanh(gamma)


def build(
    normalizer: str | dict | c.Normalizer,
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
    config = c.normalizer_config(normalizer, **parameters)
    return LearnedNormalizer(config, num_heads, hidden_size, device)


def check_start(config: c.Normalizer) -> None:
    """Refuse a config that a module cannot start from."""
    name = c.name_of(config)
    for field in fields(config):
        if not isinstance(getattr(config, field.name), NOT_A_TENSOR):
            raise WideneckError(
                f"A {name} that learns starts from a number for {field.name}, got a tensor: set "
                "the module's parameter after it is made."
            )
    if isinstance(config, c.Entmax) and config.learned and not 1 < config.alpha < 2:
        raise WideneckError(
            f"A learned alpha stays between 1 and 2 and cannot start at {config.alpha:g}: start "
            "between them, or give learned=False."
        )
    if isinstance(config, c.ASEntmax):
        default = c.ASEntmax()
        if (config.beta, config.gamma) != (default.beta, default.gamma):
            raise WideneckError(
                "asentmax learns beta and gamma from hidden states, starting at ln 2 and 0: leave "
                "them out."
            )


def _check(config: c.Normalizer, num_heads: int, hidden_size: int | None) -> None:
    check_start(config)
    for label, size in (("num_heads", num_heads), ("hidden_size", hidden_size)):
        if size is None and not isinstance(config, c.ASEntmax):
            continue
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise WideneckError(
                f"{c.name_of(config)} needs a whole number >= 1 for {label}, got {size!r}."
            )


def _learned(config: c.Normalizer) -> tuple[str, ...]:
    if isinstance(config, c.ASEntmax):
        return ("beta", "gamma")
    if not getattr(config, "learned", False):
        return ()
    if isinstance(config, c.SSMax):
        return ("scale", "bias") if config.bias else ("scale",)
    return ("logit",) if isinstance(config, c.Sink) else ("raw_alpha",)


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
