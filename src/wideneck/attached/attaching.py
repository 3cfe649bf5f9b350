"""What `wideneck.attach` does: another output layer for a model, with the same predictions."""

from functools import partial
from typing import Any

import transformers
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from wideneck.attached.guard import refuse_patched
from wideneck.attached.model import AttachedModel, original_class
from wideneck.attached.own_config import own_config
from wideneck.attached.own_loss import check_own_loss
from wideneck.attached.probe import probe_logits
from wideneck.attached.start import start_config
from wideneck.attached.swap import attached_head, is_tied, map_without_bias, swap_head, untie
from wideneck.config import HeadConfig, LowRank, name_of
from wideneck.errors import WideneckError
from wideneck.models import LogitMap
from wideneck.models.causality import check_left_to_right


def put_head(model: Any, head: Any, options: dict[str, Any], *, tie: bool = True) -> Any:
    """`wideneck.attach`, on a model that has passed `check_attachable`.

    A low_rank is random, and its caller gives it its factors.
    """
    config, logit_map = checked_start(model, head, options)
    if is_tied(model) and (not tie or isinstance(config, LowRank)):
        untie(model)
    return place_head(model, config, logit_map.scale)


def checked_start(model: Any, head: Any, options: dict[str, Any]) -> tuple[HeadConfig, LogitMap]:
    """The config with which a head starts on a model, and what the model does to its logits.

    Raises:
        WideneckError: all that `wideneck.attach` refuses of a model that can be attached to.
    """
    name = type(model).__name__
    logit_map = map_without_bias(model)
    check_own_loss(model)
    config = start_config(head, options, logit_map, partial(probe_logits, model), name)
    if getattr(transformers, name, None) is not original_class(type(model)):
        raise WideneckError(
            f"{name} is not a class of transformers itself, so a saved head could not be loaded "
            "again: attach to a model that needs no remote code."
        )
    return config, logit_map


def place_head(model: Any, config: HeadConfig, logit_scale: float) -> Any:
    """Make the output layer a head of this config, and the model one that is saved with it."""
    _forget_unpacked_blocks(model)
    swap_head(model, config, logit_scale)
    model.__class__ = AttachedModel.class_of(original_class(type(model)))
    return model


def _forget_unpacked_blocks(model: Any) -> None:
    """A GGUF file unpacked on loading is a dense model; transformers would not save or train it."""
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is None or quantizer.quantization_config.quant_method != "gguf":
        return
    if all(tensor.is_floating_point() for tensor in model.state_dict().values()):
        own_config(model)
        quantizer.remove_quantization_config(model)


def check_new(model: Any) -> None:
    """Refuse a model that has a head, or that `wideneck.attach` could give none."""
    name = type(model).__name__
    before = attached_head(model) if isinstance(model, PreTrainedModel) else None
    if before is not None:
        raise WideneckError(
            f"This {name} has a {name_of(before.config)} head of wideneck already: attach to a "
            "model as transformers loads it."
        )
    check_attachable(model, "attach")
    if model.config.is_encoder_decoder:
        raise WideneckError(
            f"attach needs a model that predicts the next token; {name} is not one, or has an "
            "encoder."
        )


def check_attachable(model: Any, what: str) -> None:
    """Refuse a model that does not predict, or whose output layer cannot be replaced by a head.

    Messages say that the function `what` was called.
    """
    name = type(model).__name__
    if not isinstance(model, PreTrainedModel) or model.get_output_embeddings() is None:
        raise WideneckError(
            f"{what} needs a causal language model of transformers, such as AutoModelForCausalLM "
            f"gives, got {name}."
        )
    if not model.can_generate():
        raise WideneckError(
            f"{what} needs a model that predicts the next token; {name} is not one."
        )
    refuse_patched(model, what)
    layer: Any = model.get_output_embeddings()
    if not isinstance(getattr(layer, "weight", None), Tensor):
        raise WideneckError(
            f"{what} replaces the one output layer of a model; {name} has a {type(layer).__name__} "
            f"in its place, such as a layer for each codebook, and predicts from several at once: "
            "give a model that predicts one token at a time."
        )
    if not isinstance(layer, nn.Linear) or not layer.weight.is_floating_point():
        raise WideneckError(
            f"{what} replaces a linear output layer in floating point, {name} has a "
            f"{type(layer).__name__} of {layer.weight.dtype}: attach first, then quantize or wrap."
        )
    if any(parameter.is_meta for parameter in model.parameters()):
        raise WideneckError(f"This {name} has weights on the meta device: load them before.")
    if isinstance(layer.weight, DTensor) or "_hf_hook" in vars(layer):
        raise WideneckError(f"This {name} is already spread over devices: {what} before.")
    check_left_to_right(model)
