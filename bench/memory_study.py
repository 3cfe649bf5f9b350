"""What a memory and its losses bring on real text, against plain fine-tuning on the same tokens.

    python -m bench memory-study --out DIR
    python -m bench memory-study report DIR

The last layers of the default model, SmolLM2-135M-Instruct, are trained briefly on WikiText-2:
plainly, by the mixture's likelihood (TRIME), and with the ranking loss beside it (HistAlign).  A
seed is a choice of training windows and their order, and of continuations; it is the same for all.
Measured are the loss of held-out text, of the mixture and of the model alone, and continuations of
prompts: repetition, and whether they follow from the prompt, which the original model judges.
Every arm also gets the temperature and bias that are best on the validation text afterwards: what
plain fine-tuning has with them is what a cache brings without training.

DIR gets a file for each finished run, which is not run again, so that the same command continues
an interrupted study, and the states of the frozen layers (some 370 MB).  `--quick` shows only that
everything works.
"""

import argparse
import copy
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import wideneck as wn
from bench.memory_study_data import Corpus, Recipe, corpus, describe, first_trained
from bench.memory_study_report import ARMS, CONTINUED, report
from bench.memory_study_scores import (
    OFF,
    Setting,
    fitted,
    mixture,
    seen,
    setting_of,
    starting_from,
    statistics,
    with_setting,
)
from bench.studies import Experiment, Line, Study, train
from wideneck.data import read_text
from wideneck.lab.tasks.coherence import judged
from wideneck.memory import Memory
from wideneck.models import default_model, evaluating, load_language_model

DATA = Path("../shared/data")
CLOSE = 1e-3
"""By how much rounding may move a mean loss, in nats, that is computed in two ways."""


def _options(add: Any) -> None:
    for name in ("train", "valid", "test"):
        file = DATA / f"wikitext2.{name}.txt.gz"
        add(f"--{name}", type=Path, default=file, help=f"text, plain or .gz; {file} unless told")
    add("--lr", type=float, help="learning rate")


def _begin(options: argparse.Namespace) -> Experiment:
    recipe = Recipe(**STUDY.changes(options, "lr"))
    if recipe.steps * recipe.batch > recipe.pool:
        sys.exit(f"A run has at most {recipe.pool // recipe.batch} steps, got {recipe.steps}.")
    texts = {name: read_text(getattr(options, name)) for name in ("train", "valid", "test")}

    @cache  # not where all runs are there
    def trained() -> Trained:
        loaded = load_language_model(default_model())
        model = loaded.model.eval()
        found = corpus(texts, loaded, recipe, options.out / "states.safetensors")
        judge = copy.deepcopy(model)
        return Trained(wn.attach_memory(model), judge, loaded.tokenizer, found, recipe)

    return Experiment(
        settings=describe(texts, recipe),
        arms=list(ARMS),
        make=lambda arm, seed: trained().human() if seed is None else trained().run(arm, seed),
        once=["human"],
        told=_told,
    )


def _told(line: Line) -> str:
    scores = {name: sum(values) / len(values) for name, values in line["scores"].items()}
    text = " ".join(f"{name} {value:.4f}" for name, value in scores.items())
    setting = ", ".join(
        f"{name} {t:.2f} {b:.2f}" for name, (t, b) in line["settings"].items() if name != "model"
    )
    seconds = " + ".join(f"{value:.0f} s" for value in line["seconds"])
    return f"{text}; {setting}; {seconds}"


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
        if arm != "untrained":
            self._train(seed)
        trained = time.perf_counter()
        with evaluating(self.model):
            scores, settings = self._score()
            continued = {how: self._continue(settings[how], seed) for how in CONTINUED[arm]}
        return {
            "settings": settings,
            "scores": scores,
            "documents": self.corpus.test.document.tolist(),
            "continued": continued,
            "seconds": [trained - started, time.perf_counter() - trained],
        }

    def human(self) -> dict[str, Any]:
        """How the documents go on, by the same measures."""
        return self._judge(self.corpus.human)

    def _train(self, seed: int) -> None:
        model, recipe, data = self.model, self.recipe, self.corpus.train
        optimizer = _optimizer(model, recipe)
        draw = torch.Generator().manual_seed(seed)  # the seed's alone: the same for every arm
        order = torch.randperm(len(data.ids), generator=draw)[: recipe.steps * recipe.batch]
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        model.train()

        def loss(step: int) -> Tensor:
            rows = order[step * recipe.batch :][: recipe.batch]
            ids = data.ids[rows]
            with starting_from(model, self.first, data.states[rows]):
                return model(input_ids=ids, labels=ids, use_cache=False).loss

        train(optimizer, recipe.factor, parameters, recipe.clip, recipe.steps, loss)

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
        found = judged(
            self.judge, self.tokenizer, self.corpus.prompts, continuations, self.corpus.common
        )
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


STUDY = Study(
    name="memory-study",
    about=__doc__,
    options=_options,
    begin=_begin,
    report=report,
    quick={"pool": 4, "valid": 2, "test": 2, "steps": 2, "prompts": 3, "continuation": 12},
)
main, _parser = STUDY.main, STUDY.parser
