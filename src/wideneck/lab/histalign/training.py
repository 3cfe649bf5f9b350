"""The model that each objective starts from, made from a seed or loaded, and its training.

Rows come in random order, with the loss on the pieces of the label alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import BatchSampler, RandomSampler
from transformers import AutoModelForCausalLM, GPT2Config

from wideneck.attached.attaching_memory import attach_memory
from wideneck.errors import WideneckError
from wideneck.lab.ambiguous.encoding import IGNORE, Encoding, Example, Pieces, Vocabulary
from wideneck.lab.ambiguous.words import Analogies
from wideneck.lab.histalign.objectives import COMMON, Objective
from wideneck.lab.jobs import Show
from wideneck.memory.config import Memory
from wideneck.models import load_language_model

POSITIONS = 32
"""More than the longest row of whole words has."""
MAX_NORM = 1.0
"""The gradient is clipped to it, as the Trainer of transformers does."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A GPT-2 that is trained from scratch; input and output share their frozen matrix."""

    hidden_size: int
    num_layers: int
    num_heads: int


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How each objective is trained and measured.  AdamW, no decay, the rate falling to 0."""

    shape: Shape | None = None
    """None: a pretrained model is fine-tuned."""
    batch_size: int
    """Rows in each step of the optimizer."""
    micro_batch: int
    """Rows in each forward pass; the ranking loss is averaged over these."""
    num_steps: int | None = None
    """Optimizer's steps; None: `num_epochs`."""
    num_epochs: int | None = None
    learning_rate: float
    num_test_prompts: int = 4096
    """Distinct prompts of the test part, drawn by the seed; all where there are fewer."""
    num_rank_rows: int
    """Contexts N of the matrix whose rank is measured: every position of the first of them."""


def start(
    source: str | None, recipe: Recipe, objective: Objective, analogies: Analogies, seed: int
) -> tuple[Any, Encoding]:
    """A model with its memory and a frozen output matrix, and how words become its ids.

    Equal seeds give equal weights, whatever the objective.

    Args:
        source: id or folder of a causal language model of Hugging Face; None: from scratch.
    """
    torch.manual_seed(seed)
    if source is None:
        assert recipe.shape is not None
        words = Vocabulary(analogies)
        model: Any = from_scratch(recipe.shape, len(words), words.bos)
        encoding: Encoding = words
    else:
        loaded = load_language_model(source)
        device = torch.accelerator.current_accelerator(check_available=True) or "cpu"
        model, encoding = loaded.model.to(device), Pieces(loaded.tokenizer)
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


def train(model: Any, rows: Sequence[Example], recipe: Recipe, seed: int, show: Show) -> None:
    """Train in place, in an order of the rows that the seed decides.

    Raises:
        WideneckError: the loss is not finite.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    device = parameters[0].device
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=0.0, fused=True)
    num_steps = steps(recipe, len(rows))
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / num_steps)
    # Permutations that follow each other without a gap.
    order = RandomSampler(
        rows,
        num_samples=num_steps * recipe.batch_size,
        generator=torch.Generator().manual_seed(seed),
    )
    model.train()
    for step, places in enumerate(BatchSampler(order, recipe.batch_size, drop_last=True)):
        batch = [rows[place] for place in places]
        num_targets = sum(label != IGNORE for row in batch for label in row.labels)
        for start in range(0, len(batch), recipe.micro_batch):
            part = padded(batch[start : start + recipe.micro_batch], device)
            loss = model(**part, num_items_in_batch=num_targets).loss
            if not loss.isfinite():
                raise WideneckError(
                    f"The loss is no longer finite at step {step + 1} of {num_steps}: this model "
                    "cannot be trained by this objective with raw scores."
                )
            loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, MAX_NORM)
        optimizer.step()
        falling.step()
        optimizer.zero_grad()
        show((step + 1) / num_steps)


def steps(recipe: Recipe, num_rows: int) -> int:
    """How many steps the optimizer makes."""
    if recipe.num_steps is not None:
        return recipe.num_steps
    assert recipe.num_epochs is not None
    return max(1, recipe.num_epochs * num_rows // recipe.batch_size)


def padded(rows: Sequence[Example], device: torch.device) -> dict[str, Tensor]:
    """What a model takes, padded on the right: positions count from the first token."""
    ids = [torch.tensor(row.ids) for row in rows]
    labels = [torch.tensor(row.labels) for row in rows]
    return {
        "input_ids": pad_sequence(ids, batch_first=True).to(device),
        "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORE).to(device),
        "attention_mask": pad_sequence(list(map(torch.ones_like, ids)), batch_first=True).to(
            device
        ),
    }
