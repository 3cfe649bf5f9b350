"""The output layer of a run of `wideneck train`, from its recipe and its best weights."""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from wideneck.config import head_config
from wideneck.data import read_vocabulary
from wideneck.errors import WideneckError
from wideneck.models.checks import check_matrix
from wideneck.models.expected_head import module_name
from wideneck.models.head_weights import HeadForm, HeadWeights
from wideneck.models.small.awd_lstm import AwdLstmBackbone
from wideneck.models.small.config import AwdLstm, States, Transformer
from wideneck.models.small.transformer import base_model
from wideneck.training import headers
from wideneck.training.folder import MODEL, VOCABULARY
from wideneck.training.saved_run import read_run_recipe
from wideneck.training.tensor_file import Stored

WEIGHT, BIAS = "head.weight", "head.bias"
TYING = ("gives the head its own matrix", "makes head and embedding one matrix")


def read_run_head(path: Path, display: str, strings: list[str | None] | None) -> HeadWeights:
    """The head's matrix and bias, each checked by its sum; no other tensor is read.

    The user named the run's folder as `display`.  Tokens by id are given as `strings`; None for the
    run's own words, where it has some.
    """
    recipe, stored = read_run_recipe(path), Stored(path / MODEL)
    tied, name, config, embedding = False, WEIGHT, recipe.head, None
    if isinstance(recipe.model, States):
        config = head_config(stored.header(headers.HeadWeights).head)
    else:
        embedding = _embedding_name(recipe.model, stored.header(headers.TextWeights).vocab_size)
        tied = recipe.model.tied
        name = embedding if tied else WEIGHT
    weight = _tensor(stored, name)
    bias = _tensor(stored, BIAS) if BIAS in stored.names() else None
    check_matrix(name, weight, bias)
    stored.say_if_without_sums()
    if strings is None and (path / VOCABULARY).exists():
        strings = [*read_vocabulary(path / VOCABULARY).words]
    return HeadWeights.of(
        weight,
        bias,
        name=name,
        tied=tied,
        tying=f"the run's recipe {TYING[tied]}",
        tokens=strings,
        model=display,
        form=HeadForm(config=config, is_ours=True),
        input_weight=None if tied or embedding is None else partial(_tensor, stored, embedding),
    )


def _embedding_name(model: AwdLstm | Transformer, vocab_size: int) -> str:
    """Under which a tied matrix is stored; the backbone is built on the meta device."""
    with torch.device("meta"):
        if isinstance(model, AwdLstm):
            backbone = AwdLstmBackbone(model, vocab_size=vocab_size)
            return f"backbone.{module_name(backbone, backbone.embedding)}.weight"
        inner = base_model(model, vocab_size)
        embedding = inner.get_input_embeddings()
    return f"backbone.model.{module_name(inner, embedding)}.weight"


def _tensor(stored: Stored, name: str) -> Tensor:
    for rest, tensor in stored.tensors(name):
        if not rest:
            return tensor.clone()  # a map of the file goes with its walk
    raise WideneckError(
        f"{stored.path} lacks {name}, which the recipe beside it makes: give back the weights that "
        "belong to it."
    )
