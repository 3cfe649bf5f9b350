"""What every run of continuation begins at: the model, its original as the judge, and the text.

One model is loaded, and every run begins at its weights; the seed decides the order of the training
blocks and the draws of decoding.  Where the last layers alone are trained, what the others make of
the text is computed once.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, final

import torch
from torch import Tensor

from wideneck.attached.attaching_memory import attach_memory
from wideneck.attached.swap import put_memory
from wideneck.data.corpus import Corpus
from wideneck.errors import WideneckError
from wideneck.lab.histalign.objectives import OBJECTIVES
from wideneck.lab.tasks.coherence import common_words
from wideneck.lab.tasks.continuing import Measuring
from wideneck.lab.tasks.openings import blocks, openings
from wideneck.lab.tasks.seen import Seen
from wideneck.lab.tasks.trial import Measured
from wideneck.lab.tasks.upper_layers import first_trained, running_from, states_before
from wideneck.lab.tasks.views import memory_of
from wideneck.memory import Memory, visible_history
from wideneck.models import LoadedModel, evaluating
from wideneck.models.reading import entering_head


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How each objective is trained, and what is read and written."""

    memory: dict[str, Any] = field(default_factory=dict)
    """Fields of `wideneck.Memory` that all objectives share."""
    window: int
    """Tokens of a training block, and of what is read of a held-out document."""
    num_blocks: int | None = None
    """Training blocks, drawn from all of the text; None: all."""
    trained_layers: int | None = None
    """The last ones, with the final norm and the memory; None: the whole model."""
    num_steps: int | None = None
    """Optimizer's steps; None: `num_epochs`."""
    num_epochs: int | None = None
    batch_size: int
    """Blocks in each step."""
    micro_batch: int
    """Blocks in each forward pass; the ranking loss is averaged over these."""
    learning_rate: float
    learned_rate: float = 1e-2
    """Of the memory's temperature and bias, where they are learned."""
    warm_up: float = 0.0
    """Share of the steps in which the rates rise."""
    weight_decay: float = 0.0
    num_checkpoints: int = 20
    """In a training."""
    num_valid: int
    """Validation documents, which a cache is fitted on afterwards."""
    num_test: int
    """Test documents that are read; see `num_prompts`."""
    words: tuple[int, int] | None = None
    """A held-out document of so few or so many is left out; None: none is."""
    num_prompts: int
    """Test documents that are continued."""
    prompt: int = 50
    """Tokens of a prompt."""
    fewest_new: int
    """Tokens that a continuation has before the text may end."""
    most_new: int
    top_p: float = 0.95
    num_draws: int = 3
    """Continuations of each prompt."""
    written: int = 64
    """Continuations that are written at a time."""
    num_rank_rows: int
    """Targets N of the matrix whose rank is measured."""
    common_words: int = 200
    """How many of the training text's most frequent words count as no content."""


@final
class Start:
    """The model that every run begins at, its original as the judge, and the text."""

    def __init__(self, loaded: LoadedModel, corpus: Corpus, recipe: Recipe):
        """Everything that no objective and no seed changes.

        Raises:
            WideneckError: the model has too few positions or layers, or the text is too short.
        """
        self.recipe, self.tokenizer = recipe, loaded.tokenizer
        longest = max(recipe.window, recipe.prompt + recipe.most_new)
        if loaded.max_positions is not None and loaded.max_positions < longest:
            raise WideneckError(
                f"{loaded.source} has {loaded.max_positions} positions, and this task reads "
                f"{longest} tokens at a time: name another model."
            )
        self.blocks = blocks(corpus, loaded.tokenizer, recipe)
        self.held_out = {
            split: openings(corpus, split, loaded.tokenizer, recipe, number)
            for split, number in (
                ("valid", recipe.num_valid),
                ("test", max(recipe.num_test, recipe.num_prompts)),
            )
        }
        device = torch.accelerator.current_accelerator(check_available=True) or "cpu"
        model = loaded.model.to(device).eval()
        test, common = self.held_out["test"], common_words(corpus.train, recipe.common_words)
        self.prompts = test.ids[: recipe.num_prompts, : recipe.prompt]
        self.measure = Measuring(deepcopy(model), loaded.tokenizer, self.prompts, common)
        self.model: Any = attach_memory(model, Memory(**recipe.memory))
        self.memory: Memory = memory_of(model).config  # with what was measured
        self.first = _frozen_below(model, recipe.trained_layers)
        self.weights = {
            n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad
        }
        self.states = {
            name: None if self.first is None else states_before(model, self.first, ids)
            for name, ids in (
                ("train", self.blocks),
                *((split, some.ids) for split, some in self.held_out.items()),
            )
        }

    def reset(self, objective: str) -> None:
        """Give the model its first weights, and the memory of an objective."""
        for name, parameter in self.model.named_parameters():
            if name in self.weights:
                parameter.data.copy_(self.weights[name])
        put_memory(self.model, replace(self.memory, **OBJECTIVES[objective].memory))

    def read(self, split: str) -> Seen:
        """What the model with its memory makes of the beginnings of a split."""
        head = self.model.get_output_embeddings()
        return Seen.joined(
            Seen.of(
                head,
                one.hidden,
                one.hidden,
                visible_history(torch.ones_like(one.ids, dtype=torch.bool))[:, :-1],
                one.target,
                one.target,
            )
            for one in self.results(split)
        )

    @torch.no_grad()
    def results(self, split: str) -> Iterator["Result"]:
        """Of each document.

        Those of the test go with their labels, so that the memory counts them; that costs two
        products of the output layer.
        """
        model, some, states = self.model, self.held_out[split], self.states[split]
        number = self.recipe.num_test if split == "test" else self.recipe.num_valid
        for row, length in enumerate(some.real.sum(1)[:number].tolist()):
            ids = some.ids[row : row + 1, :length].to(model.device)
            given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            given |= {"labels": ids} if split == "test" else {"logits_to_keep": 1}
            before = None if states is None else states[row : row + 1, :length]
            with (
                evaluating(model),
                running_from(model, self.first, before),
                entering_head(model) as entering,
            ):
                logits = model(**given, use_cache=False).logits
            yield Result(ids, entering.only()[:, :-1], logits[:, :-1])

    @cached_property
    def seen(self) -> Seen:
        """The test documents before any training."""
        return self.read("test")

    @property
    def references(self) -> list[str]:
        """How the prompts' documents go on."""
        first, test = self.recipe.prompt, self.held_out["test"]
        rows = [
            ids[real][first : first + self.recipe.most_new].tolist()
            for ids, real in zip(test.ids, test.real, strict=True)
        ]
        some = rows[: len(self.prompts)]
        return self.tokenizer.batch_decode(some, clean_up_tokenization_spaces=False)

    @cached_property
    def reference(self) -> Measured:
        """Their measures."""
        return self.measure(self.references)


@dataclass(frozen=True)
class Result:
    """One document of T tokens."""

    ids: Tensor
    """(1, T)."""
    hidden: Tensor
    """(1, T - 1, D), what entered the output layer."""
    log_probs: Tensor
    """(1, T - 1, V), of the mixture; of a validation document none."""

    @property
    def target(self) -> Tensor:
        """(1, T - 1), what follows."""
        return self.ids[:, 1:]


def _frozen_below(model: Any, trained_layers: int | None) -> int | None:
    """Leave only the last layers, the norm above them and the memory to be trained.

    Returns:
        The number of the lowest of them; None where all is trained.
    """
    if trained_layers is None:
        return None
    first = first_trained(model, trained_layers)
    model.requires_grad_(False)
    for part in (*model.model.layers[first:], model.model.norm):
        part.requires_grad_(True)
    return first
