"""What a run has trained, as a model of transformers: `wideneck.load` of its folder."""

from pathlib import Path
from typing import Any

import torch

from wideneck.attached.attaching import check_attachable, place_head
from wideneck.attached.own_config import own_config
from wideneck.attached.swap import is_tied, untie
from wideneck.config import HeadConfig, LowRank, head_config, name_of
from wideneck.errors import WideneckError
from wideneck.models import evaluating, load_language_model, read_head
from wideneck.models.quiet import quiet_transformers
from wideneck.models.small.config import AwdLstm, States
from wideneck.models.small.transformer import PROBE, TransformerBackbone
from wideneck.sizes import embedding_size
from wideneck.training.checkpoint import load_model
from wideneck.training.folder import MODEL
from wideneck.training.headers import HeadWeights
from wideneck.training.saved_run import SavedRun, load_run, read_run_recipe
from wideneck.training.states_task import HeadAlone
from wideneck.training.tensor_file import Stored


def as_transformers(path: str | Path) -> Any:
    """The model of a run with its best weights, in eval mode and float32.

    A transformer comes with the head that it was trained with; a head trained on cached states
    stands in the model whose states they were.

    Args:
        path: the folder of a run of `wideneck train`.

    Raises:
        WideneckError: no weights yet; an AWD-LSTM, which transformers does not know; a head or a
            bias that has no place in the model; a frozen model whose output matrix has changed
            since (what is below it is not compared).
    """
    path = Path(path)
    recipe = read_run_recipe(path)
    if isinstance(recipe.model, AwdLstm):
        raise WideneckError(
            f"{path} holds an AWD-LSTM, which is no model of transformers: "
            "`wideneck evaluate` measures it, and "
            "wideneck.training.saved_run.load_run gives it as a torch module."
        )
    if isinstance(recipe.model, States):
        return _with_head_of(path, recipe.model)
    return _with_backbone_of(load_run(path))


def _with_head_of(path: Path, states: States) -> Any:
    """The frozen model with the head that was trained on its states."""
    stored = Stored(path / MODEL)
    about = stored.header(HeadWeights)
    now = read_head(states.model).sha256
    if now != about.states.head_sha256:
        raise WideneckError(
            f"The head in {path} was trained on the states of a {about.states.model} with "
            "another output matrix than it has now; give back the model that it was trained on."
        )
    model = load_language_model(states.model).model
    if is_tied(model):
        untie(model)
    _put_head(path, model, head_config(about.head), about.logit_scale)
    load_model(HeadAlone(model.get_output_embeddings()), stored)
    stored.say_if_without_sums()
    return model.eval()


def _with_backbone_of(run: SavedRun) -> Any:
    """A causal language model of the architecture with the run's backbone and head."""
    from transformers import AutoModelForCausalLM

    backbone, trained = run.model.backbone, run.model.head
    assert isinstance(backbone, TransformerBackbone)
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        model = AutoModelForCausalLM.from_config(backbone.model.config)
    own_config(model)
    model.config.use_cache = True
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        # Unless the recipe says so, these are words of another vocabulary.
        token = backbone.config.options.get(key, getattr(run.tokenizer, key, None))
        setattr(model.config.get_text_config(), key, token)
        setattr(model.generation_config, key, token)
    if is_tied(model) and not run.model.tied:
        untie(model)
    _put_head(run.path, model, trained.config, trained.logit_scale, bias=trained.bias is not None)
    head, weights = model.get_output_embeddings(), trained.state_dict()
    if head.bias is not None and trained.bias is None:
        weights["bias"] = torch.zeros_like(head.bias)
    head.load_state_dict(weights)
    # Left over is what a base model has for other uses, such as BERT's pooler.
    missing = model.base_model.load_state_dict(backbone.model.state_dict(), strict=False)
    if missing.missing_keys:
        raise _unlike(run, model)
    _check_same(run, model.eval())
    return model


@torch.no_grad()
def _check_same(run: SavedRun, model: Any) -> None:
    """Architectures do more than their base model, so that a few tokens are predicted by both."""
    ids = torch.arange(min(PROBE, run.model.backbone.context or PROBE))[None]
    with evaluating(run.model):
        expected, _ = run.model.log_probs(ids % run.about.vocab_size)
    found = model(ids % run.about.vocab_size).logits
    if not torch.allclose(found, expected, rtol=1e-4, atol=1e-4):
        raise _unlike(run, model)


def _unlike(run: SavedRun, model: Any) -> WideneckError:
    return WideneckError(
        f"{type(model).__name__} does not predict what the run in {run.path} does, because it has "
        "more than its base model, on which the run was trained; `wideneck evaluate` measures the "
        "run as it is."
    )


def _put_head(
    path: Path, model: Any, config: HeadConfig, logit_scale: float, *, bias: bool = False
) -> None:
    """A head with its parts at their start in place of the output layer."""
    check_attachable(model, "wideneck.load")
    layer: Any = model.get_output_embeddings()
    width = layer.weight.shape[1]
    if embedding_size(config, width) != width and not isinstance(config, LowRank):
        raise WideneckError(
            f"The {name_of(config)} in {path} has an output matrix of width "
            f"{embedding_size(config, width)}, and a {type(model).__name__} keeps one of {width}; "
            "train a head without an embedding_size of its own."
        )
    if bias and layer.bias is None:
        raise WideneckError(
            f"The head in {path} has a bias, for which a {type(model).__name__} has no place; "
            "train with bias = false in [model]."
        )
    with torch.random.fork_rng(devices=[]):  # the parts that are drawn here do not stay
        place_head(model, config, logit_scale)
