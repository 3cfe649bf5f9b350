"""`attach`: another output layer for a causal language model, with the same predictions."""

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
from wideneck.config import HeadConfig, name_of
from wideneck.errors import WideneckError
from wideneck.models.causality import check_left_to_right


def attach(model: Any, head: str | dict | HeadConfig, *, tie: bool = True, **options: Any) -> Any:
    r"""Replace the output layer of a causal language model of transformers by a head.

    The model is changed in place and predicts what it did before.  Its logits are then
    log-probabilities, so `generate()` and everything that reads logits work as they did; its
    loss is the head's, which forms no logits in training.

    How near the start is, with z the model's logits and p its probabilities:

    - softmax, scaled_softmax, plif, mos and moc: the same up to rounding.  A mixture gets the
      projection "residual", h + U_k h with U_k = 0 at first.
    - gss: the same up to rounding, by slope k = 1, learned.  Its gradient, sum_j (p_j - y_j)
      log sigmoid(z_j - c), is alive; that of the bend c has the factor k - 1 and is 0 at the
      first step.
    - sigsoftmax and moss: log-probabilities move by less than 0.01, by a learned shift c that
      puts every logit where the sigmoid is nearly 1; see `LogitRange.margin`.  The gradient of
      c, sum_j (p_j - y_j) (1 - sigmoid(z_j + c)), is below e^-5 there: nearly dead.  A shift
      of your own bends at once, and changes the predictions: `shift=0.0` for the paper's
      sigsoftmax, `activation={"name": "sigsoftmax", "shift": 0.0}` for the paper's moss.
    - sigmoid: likewise, by a shift far below 0, where log sigmoid(z + c) is nearly z + c.  The
      gradient, sum_j (p_j - y_j) (1 - sigmoid(z_j + c)) again, is sum_j (p_j - y_j) = 0 but for
      less than e^-5.
    - relu, low_rank, a mixture with an embedding_size, and softcap on a model without a cap cannot
      start there and are refused.

    Args:
        model: anything of transformers that generates text and has output embeddings.
        head: a name, a config or its dictionary; see `wideneck heads`.
        tie: keep the weight shared with the embedding, where the model shares it.
        options: fields of the head's config.  A number given here is taken as it is, whatever
            the model predicted; in a config, one other than the default.

    Returns:
        The model.

    Cost: five short forward passes, two of 4 tokens, two of 48 and one of 256.

    Raises:
        WideneckError: not a causal language model, one that sees later tokens, one that already
            has a head, a layer for each codebook, a forward that somebody has replaced, logits
            that pass through something unknown, a loss that counts labels at other positions, a
            head that cannot start from the model's predictions.
    """
    _check(model)
    return put_head(model, head, options, tie=tie)


def put_head(model: Any, head: Any, options: dict[str, Any], *, tie: bool = True) -> Any:
    """`attach`, on a model that has passed `check_attachable`."""
    name = type(model).__name__
    logit_map = map_without_bias(model)
    check_own_loss(model)
    config = start_config(head, options, logit_map, partial(probe_logits, model), name)
    if getattr(transformers, name, None) is not original_class(type(model)):
        raise WideneckError(
            f"{name} is not a class of transformers itself, so a saved head could not be loaded "
            "again: attach to a model that needs no remote code."
        )
    if not tie and is_tied(model):
        untie(model)
    return place_head(model, config, logit_map.scale)


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


def _check(model: Any) -> None:
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
