"""The bias that BART, Marian and their kin add to the logits after the output layer.

It is a buffer (1, V) of the model's, `final_logits_bias`, under which checkpoints know it.  It
stays there, one truth, and the head has the same storage as its bias: what comes from a head is
normalized, and so must hold everything that is added.
"""

from typing import Any

import torch

from wideneck.errors import WideneckError
from wideneck.models import LogitMap, measure_logit_map

NAME = "final_logits_bias"


def map_without_bias(model: Any) -> LogitMap:
    """`measure_logit_map`, for a model whose final bias will be its head's.

    Raises:
        WideneckError: the model does something else, too, so that the head's bias is another.
    """
    bias = model._buffers.get(NAME)
    if bias is None:
        return measure_logit_map(model)
    model._buffers[NAME] = torch.zeros_like(bias)
    try:
        found = measure_logit_map(model)
    finally:
        model._buffers[NAME] = bias
    layer = model.get_output_embeddings()
    if found.kind != "identity" or getattr(layer, "bias", None) is not None:
        raise WideneckError(
            f"{type(model).__name__} has a {NAME} beside another bias, scale or cap of its logits, "
            "in an order that wideneck does not know: attach to a model without."
        )
    return found


def serve_bias(model: Any, head: Any) -> None:
    """Make the model's final bias, where it has one, the bias of its head.

    Cheap, so done before each call: moving, loading and resizing make another buffer of it.
    """
    bias = model._buffers.get(NAME)
    if bias is None:
        return
    if "bias" not in head._buffers:
        vars(head).pop("bias", None)  # None, a plain attribute or a parameter: the layer had none
        head._parameters.pop("bias", None)
        head.register_buffer("bias", None, persistent=False)
    head._buffers["bias"] = bias.view(-1)
