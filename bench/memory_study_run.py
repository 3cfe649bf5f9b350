"""One run of the memory study: the last layers trained under one loss, then measured."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bench.memory_study_data import Corpus, Recipe, first_trained
from bench.memory_study_judge import judged
from bench.memory_study_report import ARMS, CONTINUED
from bench.memory_study_scores import (
    OFF,
    Setting,
    fitted,
    mixture,
    seen,
    setting_of,
    statistics,
    with_setting,
)
from bench.memory_study_states import starting_from
from bench.study_training import train
from wideneck.memory import Memory
from wideneck.models import evaluating

CLOSE = 1e-3
"""By how much rounding may move a mean loss, in nats, that is computed in two ways."""


class Trained:
    """The model with a memory, which every run starts from, and its original as the judge."""

    def __init__(self, model: Any, judge: Any, tokenizer: Any, corpus: Corpus, recipe: Recipe):
        self.model, self.judge, self.tokenizer = model, judge, tokenizer
        self.corpus, self.recipe = corpus, recipe
        self.first = first_trained(model, recipe)
        self.memory: Memory = model.cache_memory.config  # with what was measured at attaching
        self.start = {name: x.clone() for name, x in model.state_dict().items()}
        model.requires_grad_(False)
        for part in (*model.model.layers[self.first :], model.model.norm, model.cache_memory):
            part.requires_grad_(True)

    def run(self, arm: str, seed: int) -> dict[str, Any]:
        """Train and measure.  Losses are in nats a token."""
        started = time.perf_counter()
        self.model.load_state_dict(self.start)
        self.model.cache_memory.config = replace(self.memory, **ARMS[arm])
        steps = [] if arm == "untrained" else self._train(seed)
        trained = time.perf_counter()
        with evaluating(self.model):
            scores, settings = self._score()
            continued = {how: self._continue(settings[how], seed) for how in CONTINUED[arm]}
        return {
            "arm": arm,
            "seed": seed,
            "steps": steps,
            "settings": settings,
            "scores": scores,
            "documents": self.corpus.test.document.tolist(),
            "continued": continued,
            "seconds": [trained - started, time.perf_counter() - trained],
        }

    def human(self) -> dict[str, Any]:
        """How the documents go on, by the same measures."""
        return self._judge(self.corpus.human)

    def _train(self, seed: int) -> list[dict[str, float]]:
        """What the memory notes of every step."""
        model, recipe, data = self.model, self.recipe, self.corpus.train
        optimizer = _optimizer(model, recipe)
        draw = torch.Generator().manual_seed(seed)  # the seed's alone: the same for every arm
        order = torch.randperm(len(data.ids), generator=draw)[: recipe.steps * recipe.batch]
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        model.train()

        def loss(step: int) -> tuple[Tensor, Callable[[], dict[str, float]]]:
            rows = order[step * recipe.batch :][: recipe.batch]
            ids = data.ids[rows]
            with starting_from(model, self.first, data.states[rows]):
                value = model(input_ids=ids, labels=ids, use_cache=False).loss
            return value, lambda: model.cache_memory.statistics.take(True)

        return train(optimizer, recipe.factor, parameters, recipe.clip, recipe.steps, loss)[1]

    def _score(self) -> tuple[dict[str, list[float]], dict[str, Setting]]:
        """Means of every test window, and the settings of the memory."""
        model, corpus = self.model, self.corpus
        settings = {"model": OFF, "full": setting_of(model)}
        settings["fitted"] = fitted(seen(model, corpus.valid, self.first), settings["full"])
        test = seen(model, corpus.test, self.first)
        loss, mass = mixture(test, settings["fitted"])
        scores = statistics(model, corpus.test, self.first)
        again = mixture(test, settings["full"])[0].mean(1) - torch.tensor(scores["nll"])
        if again.abs().max() > CLOSE:
            raise RuntimeError(f"Two ways to the loss differ by {again.abs().max():.2g} nats.")
        scores["nll_fitted"] = loss.mean(1).tolist()
        scores["cache_mass_fitted"] = mass.mean(1).tolist()
        return scores, settings

    @torch.no_grad()
    def _continue(self, setting: Setting, seed: int) -> dict[str, Any]:
        recipe, prompts = self.recipe, self.corpus.prompts
        torch.manual_seed(seed)
        with with_setting(self.model, setting):
            ids = self.model.generate(
                input_ids=prompts,
                attention_mask=torch.ones_like(prompts),
                do_sample=True,
                top_p=recipe.top_p,
                top_k=0,
                temperature=1.0,
                min_new_tokens=recipe.continuation,  # no end of the text before
                max_new_tokens=recipe.continuation,
            )
        return self._judge(ids[:, recipe.prompt :])

    def _judge(self, continuations: Tensor) -> dict[str, Any]:
        found = judged(self.judge, self.tokenizer, self.corpus, continuations)
        return {"ids": continuations.tolist(), "measures": found}


def _optimizer(model: Any, recipe: Recipe) -> torch.optim.Optimizer:
    memory = list(model.cache_memory.parameters())
    own = {id(p) for p in memory}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in own]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in rest if p.ndim == 1]},
        {"params": memory, "lr": recipe.memory_lr},
    ]
    return torch.optim.AdamW(groups, lr=recipe.lr, weight_decay=0.0)
