"""`merged`: a model with a head of wideneck as a plain model of transformers again."""

import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from wideneck.attached.guard import refuse_patched
from wideneck.attached.model import SavedModel, original_class
from wideneck.attached.normalizer_places import placed
from wideneck.attached.swap import attached_head, is_tied, placed_memory, put_back, untie
from wideneck.config import LowRank, Mixture, MoC, ScaledSoftmax, SoftCap, Softmax, name_of
from wideneck.errors import WideneckError
from wideneck.functional.gram import ROWS
from wideneck.models import LogitMap, measure_logit_map

ROUNDING = 1e-4
"""Relative difference of two caps or scales of which one was measured."""


@torch.no_grad()
def merged(model: Any) -> Any:
    """Make a model's head a linear output layer again, where a matrix can say what the head does.

    The model is changed in place, as by `attach`: it is then of its own class of transformers, and
    what `save_pretrained` writes is read by everything that reads its architecture, without
    wideneck.  It predicts what it did; its logits are the original's kind again, scores that are
    not normalized.

    A `low_rank` becomes the product A B, of V D numbers: the model is as large and as fast as it
    was before it was cut.  Scales are multiplied into the matrix and the bias, as far as the model
    does not multiply its logits itself.  A matrix that the embedding shares stays shared, unless a
    scale would change the embedding: then the output layer gets its own, with a warning.

    Args:
        model: as `wideneck.attach` or `wideneck.load` gives it, with a softmax, scaled_softmax or
            low_rank head, or a softcap where the model caps its logits.

    Returns:
        The model.

    Cost: a copy of the matrix, where it changes; of a low_rank V r D operations in float64.

    Raises:
        WideneckError: no such model, or wrapped, or spread over devices; a head, a memory or a
            normalizer that no matrix can stand for.  The model is then as it was.
    """
    head = _check(model)
    wrapped, own = type(model), _own_map(head)
    layer = nn.Linear(head.hidden_size, head.vocab_size, bias=False, device="meta")
    layer.weight, layer.bias = head.weight, head._parameters.get("bias")
    if isinstance(head.config, LowRank):
        layer.weight = nn.Parameter(_product(head), requires_grad=head.weight.requires_grad)
    replaced = put_back(model, head, layer.train(head.training))
    model.__class__ = original_class(wrapped)
    try:
        scale = _scale(own, measure_logit_map(model), head, type(model).__name__)
    except BaseException:
        replaced()
        model.__class__ = wrapped
        raise
    if scale != 1:
        _multiply(model, layer, scale)
    return model


def _check(model: Any) -> Any:
    """The head, of a model that may be merged."""
    name = type(model).__name__
    if not isinstance(model, PreTrainedModel) and isinstance(model, nn.Module):
        inner = next((m for m in model.modules() if isinstance(m, SavedModel)), None)
        if inner is not None:
            raise WideneckError(
                f"merged is for the model itself, and this {name} wraps it: merge or unload an "
                "adapter before, and give the model of transformers that is inside."
            )
    head = attached_head(model) if isinstance(model, PreTrainedModel) else None
    if head is None:
        raise WideneckError(
            "merged is for a model of transformers with a head of wideneck, as attach or load "
            f"gives it; this {name} has none."
        )
    if model.get_output_embeddings() is not head:
        raise WideneckError(
            f"The head of this {name} stands in a {type(model.get_output_embeddings()).__name__}: "
            "merge or unload the adapter before."
        )
    refuse_patched(model, "merged")
    spread = any(p.is_meta or isinstance(p, DTensor) for p in head.parameters())
    if spread or "_hf_hook" in vars(head):
        raise WideneckError(f"The head of this {name} is spread over devices: merged before.")
    if placed_memory(model) is not None:
        raise _cannot(name, "a memory", "which predicts from the context besides")
    normalizer = placed(model)
    if normalizer is not None:
        raise _cannot(
            name, "a normalizer of wideneck in its attention", "which no output layer stands for"
        )
    config = head.config
    if isinstance(config, MoC | Mixture):
        what = "contexts" if isinstance(config, MoC) else "distributions"
        raise _cannot(
            name, f"a {name_of(config)} head", f"which mixes {what} by weights of each hidden state"
        )
    if not isinstance(config, Softmax | ScaledSoftmax | SoftCap | LowRank):
        raise _cannot(name, f"a {name_of(config)} head", f"which bends scores: {config.formula}")
    return head


def _own_map(head: Any) -> LogitMap:
    """From the scores of the head's matrix to those that its softmax sees."""
    scale = head.logit_scale
    if isinstance(head.config, ScaledSoftmax):
        scale *= float(head.activation().scale)
    cap = head.config.cap if isinstance(head.config, SoftCap) else None
    return LogitMap("scale" if cap is None else "softcap", scale, cap)


def _scale(own: LogitMap, plain: LogitMap, head: Any, model: str) -> float:
    """What the matrix is multiplied by under a model that maps its logits itself."""
    same = own.cap is plain.cap is None or (
        own.cap is not None
        and plain.cap is not None
        and math.isclose(own.cap, plain.cap, rel_tol=ROUNDING)
    )
    if not same:
        does, caps = (
            "does not cap its logits" if cap is None else f"caps its logits at {cap:g}"
            for cap in (plain.cap, own.cap)
        )
        caps = caps.replace("its logits", "them")
        raise _cannot(model, f"a {name_of(head.config)} head", f"which {caps}, and itself {does}")
    scale = own.scale / plain.scale
    if math.isclose(head.logit_scale, plain.scale, rel_tol=ROUNDING):
        scale = own.scale / head.logit_scale  # one number of the model's, measured in two dtypes
    return 1.0 if math.isclose(scale, 1, rel_tol=1e-9) else scale


def _multiply(model: Any, layer: nn.Linear, scale: float) -> None:
    if is_tied(model):
        warnings.warn(
            f"wideneck: the output layer of this {type(model).__name__} gets a matrix of its own, "
            f"{scale:g} times the embedding that it shared.",
            stacklevel=3,
        )
        untie(model)
    for name, parameter in list(layer.named_parameters()):
        trains = parameter.requires_grad
        setattr(layer, name, nn.Parameter(parameter * scale, requires_grad=trains))


def _product(head: Any) -> Tensor:
    """A B (V, D), in the type of A."""
    down = head.down.weight.double()
    rows = [part.double().matmul(down).to(head.weight.dtype) for part in head.weight.split(ROWS)]
    return torch.cat(rows)


def _cannot(model: str, part: str, reason: str) -> WideneckError:
    return WideneckError(
        f"This {model} has {part}, {reason}, so no plain model predicts what it does: keep it, and "
        "open it by wideneck.load."
    )
