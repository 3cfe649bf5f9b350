"""From a name or a config to a head."""

from typing import Any

from wideneck import config as c
from wideneck.heads.head import Head, LinearHead
from wideneck.heads.low_rank import LowRankHead
from wideneck.heads.mixture import MixtureHead, MoCHead
from wideneck.sizes import check_sizes


def build(
    head: str | dict | c.HeadConfig,
    *,
    hidden_size: int,
    vocab_size: int,
    bias: bool = False,
    logit_scale: float = 1.0,
    device: Any = None,
    dtype: Any = None,
    **options: Any,
) -> Head:
    """An output layer with fresh weights.

    Args:
        head: a name of `names()`, a config of `wideneck.config`, or its dictionary.
        hidden_size: D.
        vocab_size: V.
        bias: whether every token has a bias, as the papers' models do.
        logit_scale: constant factor of all scores.
        device: of the parameters.
        dtype: of the matrices; learned numbers of an activation stay float32.
        options: replace fields of the config, as in `build("moss", num_components=8, ...)`.

    Raises:
        WideneckError: an unknown name or option, a value out of range, a rank above D.
    """
    config = c.head_config(c.to_dict(c.head_config(head, **options)))  # no tensors
    check_sizes(hidden_size, vocab_size)
    kind = _HEADS.get(type(config), LinearHead)
    return kind(
        config,
        hidden_size=hidden_size,
        vocab_size=vocab_size,
        bias=bias,
        logit_scale=logit_scale,
        device=device,
        dtype=dtype,
    )


_HEADS: dict[type, Any] = {c.Mixture: MixtureHead, c.MoC: MoCHead, c.LowRank: LowRankHead}
"""All that are more than an activation of one matrix's scores."""


def names() -> list[str]:
    """Every head that `build` knows."""
    return list(c.HEADS)
