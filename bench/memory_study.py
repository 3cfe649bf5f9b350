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
from functools import cache
from pathlib import Path
from typing import Any

import wideneck as wn
from bench.memory_study_data import Recipe, corpus, describe
from bench.memory_study_report import ARMS, report
from bench.memory_study_run import Trained
from bench.studies import Experiment, Line, Study
from wideneck.data import read_text
from wideneck.models import default_model, load_language_model

DATA = Path("../shared/data")


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


STUDY = Study(
    name="memory-study",
    about=__doc__,
    options=_options,
    begin=_begin,
    report=report,
    quick={"pool": 4, "valid": 2, "test": 2, "steps": 2, "prompts": 3, "continuation": 12},
)
main, _parser = STUDY.main, STUDY.parser
