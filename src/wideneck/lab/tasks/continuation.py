"""A decoder with a memory of its history, trained on text and asked to go on from prompts."""

from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor
from transformers import Trainer, TrainingArguments

from wideneck.attached.parameter_groups import parameter_groups
from wideneck.lab.jobs import Show
from wideneck.lab.tasks.continuation_start import Start
from wideneck.lab.tasks.judges import Judge
from wideneck.lab.tasks.measuring import judged
from wideneck.lab.tasks.seen import Seen
from wideneck.lab.tasks.trainer import arguments, go_on, steps
from wideneck.lab.tasks.trial import Measured
from wideneck.lab.tasks.upper_layers import running_from
from wideneck.models import evaluating


@final
class Continuation:
    """A `Trial` of prompts, which ends the one before: they share the model."""

    def __init__(self, start: Start, objective: str, seed: int, judge: Judge | None = None):
        """Reset the model.

        Args:
            start: with the model.
            objective: its name.
            seed: of the order of the training blocks, and of the draws of decoding.
            judge: says something more of the texts.
        """
        start.reset(objective)
        self.start, self.seed, self.model, self.judge = start, seed, start.model, judge
        test = start.held_out["test"]
        self.documents = test.documents[: start.recipe.num_test]
        self.subjects = start.recipe.num_draws * test.documents[: len(start.prompts)]
        self.cut: dict[str, int] = {}  # of every document the beginning is meant
        self.trained = False

    def train(self, folder: Path, show: Show) -> None:
        """By the Trainer of transformers."""
        recipe, start = self.start.recipe, self.start
        num_steps = steps(recipe, len(start.blocks))
        warmup_steps = round(recipe.warm_up * num_steps)
        save_steps = max(1, num_steps // recipe.num_checkpoints)
        given = arguments(recipe, folder, num_steps, warmup_steps, self.seed, save_steps)
        groups = parameter_groups(self.model, recipe.weight_decay, learned_rate=recipe.learned_rate)
        trainer = _Trainer(
            model=self.model,
            args=TrainingArguments(**given, remove_unused_columns=False),
            train_dataset=_Blocks(start.blocks, start.states["train"]),
            optimizers=(torch.optim.AdamW(groups, lr=recipe.learning_rate), None),
        )
        trainer.first = start.first
        go_on(trainer, show)
        self.model.zero_grad()
        self.trained = True

    def seen(self, split: str) -> Seen:
        """The beginnings of the documents."""
        if split == "test" and not self.trained:
            return self.start.seen
        return self.start.read(split)

    @torch.no_grad()
    def rows(self) -> tuple[Tensor, Tensor]:
        """At the first targets of the test documents, as many as `num_rank_rows`."""
        number, head = self.start.recipe.num_rank_rows, self.model.get_output_embeddings()
        mixed, alone, count = [], [], 0
        for one in self.start.results("test"):
            mixed.append(one.log_probs[0].float().cpu())
            alone.append(head.log_probs(one.hidden[0]).float().cpu())
            count += len(mixed[-1])
            if count >= number:
                break
        return torch.cat(mixed)[:number], torch.cat(alone)[:number]

    @torch.no_grad()
    def write(self) -> list[str]:
        """Draw after draw, each of all prompts; the random numbers are the seed's alone."""
        recipe, tokenizer = self.start.recipe, self.start.tokenizer
        prompts = self.start.prompts.repeat(recipe.num_draws, 1).to(self.model.device)
        ends = self.model.generation_config.eos_token_id
        ends = {ends} if isinstance(ends, int) else set(ends or ())
        torch.manual_seed(self.seed)
        texts = []
        with evaluating(self.model):
            for some in prompts.split(recipe.written):
                found = self.model.generate(
                    input_ids=some,
                    attention_mask=torch.ones_like(some),
                    do_sample=True,
                    top_p=recipe.top_p,
                    top_k=0,
                    temperature=1.0,
                    repetition_penalty=1.0,  # which a model may bring, and which is measured
                    min_new_tokens=recipe.fewest_new,
                    max_new_tokens=recipe.most_new,
                    pad_token_id=next(iter(ends), 0),
                    use_cache=True,
                )
                rows = [_upto(row, ends) for row in found[:, recipe.prompt :].tolist()]
                texts += tokenizer.batch_decode(rows, clean_up_tokenization_spaces=False)
        return texts

    def measured(self, texts: list[str]) -> Measured:
        """Repetition, coherence with the prompts, and what a judge says."""
        return self._judged(texts, self.start.measure(texts))

    def beside(self) -> dict[str, Measured]:
        """How the documents go on, by as many tokens as a continuation has at most."""
        start = self.start
        return {"reference": self._judged(start.references, start.reference)}

    def _judged(self, texts: list[str], found: Measured) -> Measured:
        if self.judge is None:
            return found
        prompts = self.start.tokenizer.batch_decode(self.start.prompts)
        sources = len(texts) // len(prompts) * prompts
        return judged(self.judge, found, sources, texts, self.start.references)


def _upto(row: list[int], ends: set[int]) -> list[int]:
    """What stands before the end of the text, or all."""
    end = next((place for place, token in enumerate(row) if token in ends), len(row))
    return row[:end]


class _Blocks(torch.utils.data.Dataset):
    """Blocks, with what the first trained layer reads of them."""

    def __init__(self, ids: Tensor, states: Tensor | None):
        self.ids, self.states = ids, states

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        ids = self.ids[index]
        row = {"input_ids": ids, "labels": ids, "attention_mask": torch.ones_like(ids)}
        return row if self.states is None else row | {"states": self.states[index]}


class _Trainer(Trainer):
    """Runs a model from the states that a batch brings."""

    first: int | None = None

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **options: Any) -> Any:
        states = inputs.pop("states", None)
        with running_from(model, self.first, states):
            return super().compute_loss(model, inputs, *args, **options)
