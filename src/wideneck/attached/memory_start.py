"""Where the learned numbers of a memory start, measured on the model that gets it.

Hidden states of one model have scaled dot products near 1, of another in the hundreds; raw, they
would make the mixture all model or all memory.  The temperature makes their spread 1 and the bias
gives the memory a hundredth of the probability: enough to have a gradient, too little to harm.
"""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from wideneck.attached.probe import random_ids
from wideneck.attached.swap import attached_head
from wideneck.errors import WideneckError
from wideneck.memory.config import Memory
from wideneck.memory.mixture import masked_logsumexp
from wideneck.memory.scores import similarities, visible_history
from wideneck.models import ask, evaluating
from wideneck.models.reading import entering_head

SHARE = 0.01
"""The memory's part of the probability at the start, on some 64 tokens of context."""


@torch.no_grad()
def measured(model: Any, config: Memory) -> Memory:
    """The config with a temperature and a bias.  Runs the model once on random tokens."""
    if config.bias is None and config.mixture == "linear":
        config = replace(config, bias=0.0)
    if config.temperature is not None and config.bias is not None:
        return config
    ids = random_ids(model)
    with evaluating(model), entering_head(model) as entering:
        result = ask(model, **_inputs(model, ids), use_cache=False)
    states = entering.only()
    if model.config.is_encoder_decoder:
        keys = result.encoder_last_hidden_state
        visible = torch.ones(*states.shape[:2], keys.shape[1], dtype=torch.bool)
    else:
        keys = states[:, :-1]
        visible = visible_history(torch.ones_like(ids, dtype=torch.bool))
    visible = visible.to(states.device)
    s = similarities(states, keys)
    if not s.isfinite().all():
        raise WideneckError(
            f"{type(model).__name__} gives hidden states that are not finite on random tokens: "
            "load it in a wider dtype, or give temperature and bias."
        )
    if config.temperature is None:
        config = replace(config, temperature=max(float(s[visible].std()), 1e-6))
    if config.bias is None:
        assert config.temperature is not None
        log_all = masked_logsumexp(s / config.temperature, visible)
        if config.scores == "logits":
            head = attached_head(model)
            log_normalizer = (
                result.logits.logsumexp(-1)
                if head is None
                else head.nll_and_log_normalizer(states, torch.zeros_like(ids))[1]
            )
            log_all = log_all - log_normalizer
        odds = float(log_all[visible.any(-1)].mean())
        config = replace(config, bias=math.log(SHARE / (1 - SHARE)) - odds)
    return config


def _inputs(model: Any, ids: Tensor) -> dict[str, Tensor]:
    both = model.config.is_encoder_decoder
    return {"input_ids": ids, "decoder_input_ids": ids} if both else {"input_ids": ids}
