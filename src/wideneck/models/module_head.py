"""Reads the output layer of a model that is already in memory; nothing is copied on the CPU."""

from typing import Any

import torch
from torch import Tensor, nn

from wideneck.errors import WideneckError
from wideneck.models.asking import name_of
from wideneck.models.checks import check_matrix
from wideneck.models.expected_head import module_name
from wideneck.models.head_form import form_of
from wideneck.models.head_weights import HeadWeights
from wideneck.models.tying import describe_tying


def output_layer(model: nn.Module) -> Any:
    """The module that makes the logits; a model that names none is refused."""
    getter = getattr(model, "get_output_embeddings", None)
    head = None if getter is None else getter()
    weight = None if head is None else getattr(head, "weight", None)
    if not isinstance(weight, Tensor):
        raise WideneckError(
            f"{type(model).__name__} names no output embedding with a weight: expected a causal "
            "language model of transformers, such as AutoModelForCausalLM gives."
        )
    return head


def read_module_head(model: nn.Module, tokens: list[str | None] | None) -> HeadWeights:
    """The head of a causal language model in memory, sharing that memory on the CPU."""
    head = output_layer(model)
    name = f"{module_name(model, head)}.weight"
    if head.weight.is_meta:
        raise WideneckError(f"{name} is on the meta device: load the model's weights first.")
    weight = head.weight.detach().cpu()
    bias = getattr(head, "bias", None)
    bias = None if bias is None else bias.detach().cpu()
    check_matrix(name, weight, bias)

    layer: Any = model.get_input_embeddings()  # pyrefly: ignore[not-callable]
    embedding, embedding_name, same = getattr(layer, "weight", None), None, False
    if isinstance(embedding, Tensor):
        # The module's name, not the parameter's: a tied one is listed under its first name.
        embedding_name = f"{module_name(model, layer)}.weight"
        same = _same(head.weight, embedding)
    tied, tying = describe_tying(name, embedding_name, same, _config_says(model))
    return HeadWeights.of(
        weight,
        bias,
        name=name,
        tied=tied,
        tying=tying.replace("the file holds", "the model holds").replace("stored ", ""),
        tokens=tokens,
        model=name_of(model),
        form=form_of(model),
    )


def _same(head: Tensor, embedding: Tensor) -> bool:
    if head is embedding or head.data_ptr() == embedding.data_ptr():
        return head.shape == embedding.shape
    return head.dtype == embedding.dtype and torch.equal(head, embedding)


def _config_says(model: nn.Module) -> bool | None:
    config: Any = getattr(model, "config", None)
    if config is None:
        return None
    levels = (config, config.get_text_config())
    return any(bool(getattr(level, "tie_word_embeddings", False)) for level in levels)
