"""Puts a head into the place of a model's output layer, with the layer's own weights.

The layer keeps its dotted name, so names in the state dict, the keys of tied weights and the
plans of transformers go on to mean the same.  A memory is a module of its own beside the rest.

The bias that BART, Marian and their kin add to the logits after the output layer is a buffer (1, V)
of the model's, under which checkpoints know it.  It stays there, one truth, and the head has the
same storage as its bias: what comes from a head is normalized, and so must hold everything that is
added.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from wideneck import heads
from wideneck.attached.head_in_model import HeadInModel, in_model
from wideneck.attached.own_config import own_config
from wideneck.config import HeadConfig
from wideneck.errors import WideneckError
from wideneck.memory.config import Memory
from wideneck.memory.module import CacheMemory
from wideneck.models import LogitMap, measure_logit_map
from wideneck.models.expected_head import module_name
from wideneck.models.text_part import text_config

FINAL_BIAS = "final_logits_bias"
MEMORY = "cache_memory"
"""Name of the module that is a model's memory, and the beginning of its tensors' names."""


def swap_head(model: Any, config: HeadConfig, logit_scale: float) -> None:
    """Replace the output layer; its weight and bias go on as the same parameters.

    But for a low_rank, whose matrix has another width: its factors are new, and random.
    """
    layer = model.get_output_embeddings()
    head: Any = heads.build(
        config,
        hidden_size=layer.weight.shape[1],
        vocab_size=layer.weight.shape[0],
        logit_scale=logit_scale,
        device="meta",  # weight and bias are the layer's; the rest is filled below
        dtype=layer.weight.dtype,
    )
    head.__class__ = in_model(type(head))
    has_own = head.weight.shape != layer.weight.shape
    if not has_own:
        head.weight = layer.weight
    head.bias = layer.bias
    head.activation.float()  # a model loaded in bfloat16 has that as its default type
    if not layer.weight.is_meta:  # from_pretrained fills a model on the meta device
        for part in head.children():
            part.to_empty(device=layer.weight.device)
            part.reset_parameters()
        if has_own:
            head.weight = nn.Parameter(torch.empty_like(head.weight, device=layer.weight.device))
            nn.init.uniform_(head.weight, -(head.embedding_size**-0.5), head.embedding_size**-0.5)
    if has_own:
        for factor in (head.weight, head.down.weight):
            factor.requires_grad_(layer.weight.requires_grad)
    serve_bias(model, head)
    head.train(layer.training)

    name = module_name(model, layer)
    _put(model, name, head)
    head.replaced = _adapt(model, name)


def put_back(model: Any, head: Any, layer: nn.Linear) -> Callable[[], None]:
    """A linear layer in the place of a head, and what transformers plans for it.

    Returns:
        What undoes it.
    """
    name = module_name(model, head)
    kept = {key: getattr(model, key) for key in head.replaced}

    def put(module: nn.Module, plans: dict[str, Any]) -> None:
        _put(model, name, module)
        for key, value in plans.items():
            setattr(model, key, value)

    put(layer, head.replaced)
    return partial(put, head, kept)


def _put(model: Any, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def untie(model: Any) -> None:
    """Give the output layer a copy of the weight that it shares with the embedding."""
    layer = model.get_output_embeddings()
    weight = layer.weight
    layer.weight = nn.Parameter(weight.detach().clone(), requires_grad=weight.requires_grad)
    own_config(model)
    for config in (model.config, text_config(model.config)):
        config.tie_word_embeddings = False
    model.all_tied_weights_keys.pop(f"{module_name(model, layer)}.weight", None)


def is_tied(model: Any) -> bool:
    """Whether the output layer's weight is the embedding's."""
    embedding = model.get_input_embeddings()
    return embedding is not None and embedding.weight is model.get_output_embeddings().weight


def attached_head(model: Any) -> Any:
    """The head that stands in a model, perhaps in a wrapper of PEFT or FSDP, or None."""
    layer = model.get_output_embeddings()
    if layer is None:
        return None
    return next((part for part in layer.modules() if isinstance(part, HeadInModel)), None)


def _adapt(model: Any, name: str) -> dict[str, Any]:
    """What transformers plans for a linear layer of that name and would do wrong to a head.

    Returns:
        The attributes of the model as they were.
    """
    changed = ("_tp_plan", "_pp_plan", "_keep_in_fp32_modules_strict", "loss_type")
    before = {key: getattr(model, key) for key in changed}
    for plan in ("_tp_plan", "_pp_plan"):  # columns of a plain matrix; hidden states to logits
        kept = {key: value for key, value in (getattr(model, plan) or {}).items() if key != name}
        setattr(model, plan, kept)
    # Loading in half precision leaves the learned numbers of an activation in float32.
    strict = set(model._keep_in_fp32_modules_strict or ())
    model._keep_in_fp32_modules_strict = strict | {f"{name}.activation".replace(".", r"\.")}
    # The head's loss shifts the labels; the Trainer reads from here how to count them.
    model.loss_type = "ForCausalLM"
    return before


def put_memory(model: Any, config: Memory) -> None:
    """A memory whose numbers are those of the config; loading fills in learned ones."""
    head = model.get_output_embeddings()
    head.remembers = True
    memory = CacheMemory(config, device=head.weight.device)
    setattr(model, MEMORY, memory.train(model.training))
    strict = set(model._keep_in_fp32_modules_strict or ())
    model._keep_in_fp32_modules_strict = strict | {MEMORY}


def placed_memory(model: Any) -> CacheMemory | None:
    """The memory of a model, or None."""
    return model._modules.get(MEMORY)


def map_without_bias(model: Any) -> LogitMap:
    """`measure_logit_map`, for a model whose final bias will be its head's.

    Raises:
        WideneckError: the model does something else, too, so that the head's bias is another.
    """
    bias = model._buffers.get(FINAL_BIAS)
    if bias is None:
        return measure_logit_map(model)
    model._buffers[FINAL_BIAS] = torch.zeros_like(bias)
    try:
        found = measure_logit_map(model)
    finally:
        model._buffers[FINAL_BIAS] = bias
    layer = model.get_output_embeddings()
    if found.kind != "identity" or getattr(layer, "bias", None) is not None:
        raise WideneckError(
            f"{type(model).__name__} has a {FINAL_BIAS} beside another bias, scale or cap of its "
            "logits, in an order that wideneck does not know: attach to a model without."
        )
    return found


def serve_bias(model: Any, head: Any) -> None:
    """Make the model's final bias, where it has one, the bias of its head.

    Cheap, so done before each call: moving, loading and resizing make another buffer of it.
    """
    bias = model._buffers.get(FINAL_BIAS)
    if bias is None:
        return
    if "bias" not in head._buffers:
        vars(head).pop("bias", None)  # None, a plain attribute or a parameter: the layer had none
        head._parameters.pop("bias", None)
        head.register_buffer("bias", None, persistent=False)
    head._buffers["bias"] = bias.view(-1)
