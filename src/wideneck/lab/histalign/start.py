"""The model that each objective starts from: made from a seed, or loaded."""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, GPT2Config

from wideneck.attached.attaching_memory import attach_memory
from wideneck.errors import WideneckError
from wideneck.lab.ambiguous.encoding import Encoding
from wideneck.lab.ambiguous.pieces import Pieces
from wideneck.lab.ambiguous.vocabulary import Vocabulary
from wideneck.lab.ambiguous.words import Analogies
from wideneck.lab.histalign.objectives import COMMON, Objective
from wideneck.lab.histalign.settings import Settings, Shape
from wideneck.memory.config import Memory
from wideneck.models import load_language_model
from wideneck.models.positions import max_positions

POSITIONS = 32
"""More than the longest row of whole words has."""


def start(
    settings: Settings, objective: Objective, analogies: Analogies, seed: int
) -> tuple[Any, Encoding]:
    """A model with its memory and a frozen output matrix, and how words become its ids.

    Equal seeds give equal weights, whatever the objective.
    """
    torch.manual_seed(seed)
    if settings.model is None:
        assert settings.recipe.shape is not None
        words = Vocabulary(analogies)
        model: Any = from_scratch(settings.recipe.shape, len(words), words.bos)
        encoding: Encoding = words
    else:
        loaded = load_language_model(settings.model)
        model, encoding = loaded.model.to(place()), Pieces(loaded.tokenizer)
    attach_memory(model, Memory.published(**COMMON, **objective.memory))
    # --freeze_output_vocab of the released code: where it is tied, the input's matrix as well.
    model.get_output_embeddings().weight.requires_grad_(False)
    return model, encoding


def from_scratch(shape: Shape, vocab_size: int, bos: int) -> Any:
    """A GPT-2 without dropout.

    All matrices start with a deviation of 1/sqrt(d): a frozen output matrix of GPT-2's own 0.02
    would leave no scores to tell words by.
    """
    config = GPT2Config(
        vocab_size=vocab_size,
        n_positions=POSITIONS,
        n_embd=shape.hidden_size,
        n_layer=shape.num_layers,
        n_head=shape.num_heads,
        initializer_range=shape.hidden_size**-0.5,
        activation_function="gelu_pytorch_tanh",  # GPT-2's own, as one kernel
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=bos,
        eos_token_id=bos,
    )
    return AutoModelForCausalLM.from_config(config)


def place() -> torch.device:
    """Where a loaded model runs: the accelerator, if there is one."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def check_length(model: Any, longest: int) -> None:
    """Refuse a model that has fewer positions than the task takes."""
    positions = max_positions(model)
    if positions is not None and positions < longest:
        raise WideneckError(
            f"The longest row of the task has {longest} tokens under this tokenizer, and "
            f"{type(model).__name__} has {positions} positions: use another model."
        )
