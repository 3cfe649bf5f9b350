"""An encoder-decoder with a memory of its source, trained on pairs and asked for their targets."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

from wideneck.attached.attaching_memory import attach_memory
from wideneck.lab.jobs import Show
from wideneck.lab.tasks.encoder_decoder import (
    Encoder,
    Example,
    Shape,
    batched,
    from_scratch,
    pretrained,
    trained_tokenizer,
)
from wideneck.lab.tasks.measuring import Measures
from wideneck.lab.tasks.pairs import Pair, Pairs
from wideneck.lab.tasks.seen import Seen
from wideneck.lab.tasks.trainer import arguments, go_on, steps
from wideneck.lab.tasks.trial import Measured
from wideneck.memory import Memory
from wideneck.models import evaluating
from wideneck.models.positions import max_positions
from wideneck.models.quiet import quiet_transformers
from wideneck.models.reading import entering_head

BATCH = 32
"""Documents that are read or written at a time."""
CHECKPOINTS = 5
"""In a training, about."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How each objective is trained, and what is read and written."""

    shape: Shape | None = None
    """None: a pretrained model is fine-tuned."""
    memory: dict[str, Any] = field(default_factory=dict)
    """Fields of `wideneck.Memory` that all objectives share."""
    alpha: float = 1.0
    """Weight of the ranking loss, where there is one."""
    num_steps: int | None = None
    """Optimizer's steps; None: `num_epochs`."""
    num_epochs: int | None = None
    batch_size: int
    """Pairs in each step."""
    micro_batch: int
    """Pairs in each forward pass."""
    learning_rate: float
    warmup_steps: int = 0
    weight_decay: float = 0.0
    source_length: int
    """Tokens that are read at most."""
    target_length: int
    """Tokens that are written at most."""
    num_train: int | None = None
    """Training pairs where they are made up; else all there are."""
    num_valid: int
    """Validation pairs, which a cache is fitted on afterwards."""
    num_test: int
    num_beams: int = 1
    num_rank_rows: int
    """Targets N of the matrix whose rank is measured."""


@final
class Seq2Seq:
    """A `Trial` of pairs."""

    def __init__(
        self,
        source: str | None,
        recipe: Recipe,
        data: Pairs,
        memory: dict[str, Any],
        seed: int,
        measures: Measures,
    ):
        torch.manual_seed(seed)
        self.recipe, self.seed, self.measures = recipe, seed, measures
        length, target_length = recipe.source_length, recipe.target_length
        if source is None:
            assert recipe.shape is not None
            tokenizer: Any = trained_tokenizer(data.train, recipe.shape.vocab_size)
            tokenizer.add_tokens(list(data.marks))
            model = from_scratch(recipe.shape, max(length, target_length), tokenizer)
        else:
            model, tokenizer = pretrained(source)
            positions = max_positions(model) or max(length, target_length)
            length, target_length = min(length, positions), min(target_length, positions)
            if tokenizer.add_tokens(list(data.marks)):
                with quiet_transformers():
                    model.resize_token_embeddings(len(tokenizer))
            model.to(torch.accelerator.current_accelerator(check_available=True) or "cpu")
        self.model: Any = attach_memory(model, Memory(**recipe.memory, **memory))
        self.encoder = Encoder(tokenizer, length, target_length)
        self.train_examples = self.encoder.pairs(data.train)
        self.test = evenly(data.test, recipe.num_test)
        self.cut = self.encoder.num_cut({"train": data.train, "test": self.test})
        self.examples = {
            "valid": self.encoder.pairs(evenly(data.valid, recipe.num_valid)),
            "test": self.encoder.pairs(self.test),
        }
        origins = {pair.origin or pair.source: i for i, pair in enumerate(self.test)}
        self.documents = [origins[pair.origin or pair.source] for pair in self.test]
        self.subjects = self.documents

    def train(self, folder: Path, show: Show) -> None:
        """By the Trainer of transformers, AdamW with a rate that falls linearly to 0."""
        recipe = self.recipe
        rows: Any = self.train_examples  # a list does for a dataset
        num_steps = steps(recipe, len(rows))
        apart = between_checkpoints(recipe, len(rows), num_steps)
        given = arguments(recipe, folder, num_steps, recipe.warmup_steps, self.seed, apart)
        trainer = Seq2SeqTrainer(
            model=self.model,
            args=Seq2SeqTrainingArguments(**given, train_sampling_strategy="group_by_length"),
            train_dataset=rows,
            data_collator=lambda some: batched(some, self.padding),
        )
        go_on(trainer, show)

    def seen(self, split: str) -> Seen:
        """Sources and targets as the model reads them."""
        return Seen.joined(one for _, one in self._read(self.examples[split]))

    def rows(self) -> tuple[Tensor, Tensor]:
        """At the first targets of the test pairs, as many as `num_rank_rows`."""
        head = self.model.get_output_embeddings()
        mixed, alone, number = [], [], 0
        for (result, hidden), one in self._read(self.examples["test"]):
            mixed.append(result.logits[one.asked].float().cpu())
            alone.append(head.log_probs(hidden[one.asked]).float().cpu())
            number += len(alone[-1])
            if number >= self.recipe.num_rank_rows:
                break
        wanted = self.recipe.num_rank_rows
        return torch.cat(mixed)[:wanted], torch.cat(alone)[:wanted]

    @torch.no_grad()
    def write(self) -> list[str]:
        """What the model writes for each test source, by the most probable tokens."""
        texts = []
        with evaluating(self.model):
            for batch in self._batches(self.examples["test"]):
                found = self.model.generate(
                    input_ids=batch["input_ids"],
                    attention_mask=batch["attention_mask"],
                    max_new_tokens=self.encoder.target_length,
                    do_sample=False,
                    num_beams=self.recipe.num_beams,
                )
                some = self.encoder.tokenizer.batch_decode(found, skip_special_tokens=True)
                texts += [" ".join(text.split()) for text in some]
        return texts

    def measured(self, texts: list[str]) -> Measured:
        """Measures of texts for the test sources."""
        return self.measures.of(self.test, texts)

    def beside(self) -> dict[str, Measured]:
        """The measures of the references, and of a baseline."""
        return self.measures.beside(self.test)

    @property
    def padding(self) -> int:
        """The id that fills up a batch; it is told by the attention mask."""
        return self.encoder.tokenizer.pad_token_id

    def _batches(self, examples: Sequence[Example]) -> Iterator[dict[str, Tensor]]:
        for start in range(0, len(examples), BATCH):
            batch = batched(examples[start : start + BATCH], self.padding)
            yield {name: tensor.to(self.model.device) for name, tensor in batch.items()}

    @torch.no_grad()
    def _read(self, examples: Sequence[Example]) -> Iterator[tuple[tuple[Any, Tensor], Seen]]:
        """Each batch: result of the model and states that entered the head, and what is seen."""
        model = self.model
        for batch in self._batches(examples):
            with evaluating(model), entering_head(model) as entering:
                result = model(**batch, use_cache=False)
            hidden, keys = entering.only(), result.encoder_last_hidden_state
            visible = batch["attention_mask"].bool()[:, None].expand(-1, hidden.shape[1], -1)
            seen = Seen.of(
                model.get_output_embeddings(),
                hidden,
                keys,
                visible,
                batch["input_ids"],
                batch["labels"],
            )
            yield (result, hidden), seen


def between_checkpoints(recipe: Recipe, num_rows: int, num_steps: int) -> int:
    """Steps from one checkpoint to the next: whole epochs, where there is more than one.

    The Trainer draws the order of rows that are grouped by length when an epoch begins.  Inside of
    a later epoch it would go on in an order that it draws anew.
    """
    batches = math.ceil(num_rows / recipe.micro_batch)
    epoch = math.ceil(batches / (recipe.batch_size // recipe.micro_batch))
    wanted = max(1, num_steps // CHECKPOINTS)
    return wanted if num_steps <= epoch else epoch * max(1, round(wanted / epoch))


def evenly(pairs: Sequence[Pair], number: int) -> list[Pair]:
    """As many at equal distances, or all; so that they come from all places."""
    if len(pairs) <= number:
        return list(pairs)
    return [pairs[i * len(pairs) // number] for i in range(number)]
