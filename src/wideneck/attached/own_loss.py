"""Whether a model counts its labels where a head will count them.

A causal language model predicts the label of the next position.  The decoders of BART, Whisper and
others, XLM and CPM-Ant expect labels that are shifted already: under a head they would train on the
token after the next one, or their users would get another number for the same batch.
"""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from wideneck.errors import WideneckError
from wideneck.models import evaluating

NUM_TOKENS = 4


@torch.no_grad()
def check_own_loss(model: Any) -> None:
    """Refuse a model whose own loss is at other positions than a head's.

    Measured with known logits, which tell the two apart whatever the weights are.  Models without a
    loss of their own, or with one that wants more inputs, pass.

    Cost: one forward pass of four tokens.
    """
    if "labels" not in inspect.signature(type(model).forward).parameters:
        return
    layer = model.get_output_embeddings()
    ids = torch.arange(NUM_TOKENS, device=layer.weight.device)[None] % layer.weight.shape[0]
    inputs = {"input_ids": ids}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids
    handle = layer.register_forward_hook(_known)
    try:
        with evaluating(model):
            result = model(**inputs, labels=ids)
    # A loss that cannot be asked for is not compared; the model has run without labels before.
    except Exception:
        return
    finally:
        handle.remove()
    loss, logits = getattr(result, "loss", None), getattr(result, "logits", None)
    if loss is None or logits is None or logits.shape[:-1] != ids.shape:
        return
    each = -logits.double().log_softmax(-1)
    shifted = each[:, :-1].gather(-1, ids[:, 1:, None]).mean()
    here = each.gather(-1, ids[..., None]).mean()
    expected, other = (here, shifted) if model.config.is_encoder_decoder else (shifted, here)
    if abs(loss - other) < abs(loss - expected):
        where = ("that of the next", "its own") if expected is shifted else ("its own", "the next")
        raise WideneckError(
            f"{type(model).__name__} counts each label at {where[1]} position and a head of "
            f"wideneck at {where[0]} one, so its loss would be another: build a head with "
            "wideneck.heads.build and call its nll in a loop of your own."
        )


def _known(_layer: nn.Module, _args: Any, result: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (10 * torch.randn(result.shape, generator=generator)).to(result)
