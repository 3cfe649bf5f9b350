"""The attention function that transformers calls, under the name "wideneck".

Which way a call goes is chosen in `routes`; calls that want the weights form all of them.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from wideneck.attention.call import Call, as_call
from wideneck.attention.dense import formed_attention
from wideneck.attention.learned import LearnedNormalizer, newcomer, take_hidden
from wideneck.attention.normalizer import Normalizer
from wideneck.attention.routes import attend_by, choose
from wideneck.functional.autocast import without_autocast

NAME = "wideneck"


def attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    output_attentions: bool | None = None,
    **others: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention by `module.normalizer`; the interface of transformers.

    Returns:
        The output (B, Q, H, Dv), and weights (B, H, Q, K) where they are asked for.

    Raises:
        WideneckError: a layer without a normalizer; what `as_call` and `choose` refuse.
    """
    call = as_call(module, query, key, value, attention_mask, **others)
    normalizer: Any = getattr(module, "normalizer", None)
    if not isinstance(normalizer, LearnedNormalizer):
        normalizer = newcomer(module, query.shape[1])
    with without_autocast(query.device.type):
        hidden = None if normalizer.hidden_size is None else take_hidden(module)
        config = normalizer(None, hidden=hidden)
        weights = None
        if output_attentions:
            out, weights = formed_attention(call, config)
        else:
            route = choose(call, config, normalizer.kernel)
            if not torch.compiler.is_compiling():
                normalizer.route = route
            out = attend_by(route, call, config)
    return out.transpose(1, 2).contiguous(), weights


def attend(call: Call, config: Normalizer) -> Tensor:
    """Output (B, H, Q, Dv) of a call, by the fastest route."""
    return attend_by(choose(call, config), call, config)


# transformers builds a mask only for a name that has a mask function: without the second line every
# token would see its future.
AttentionInterface.register(NAME, attention_forward)
AttentionMaskInterface.register(NAME, sdpa_mask)
