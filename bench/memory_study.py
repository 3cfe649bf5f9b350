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
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

from bench import studies
from bench.memory_study_recipe import ARMS, Recipe
from bench.memory_study_report import report
from bench.studies import Experiment, Line, Study

DATA = Path("../shared/data")
HUMAN = "human"
QUICK = {
    "pool": 4,
    "valid": 2,
    "test": 2,
    "steps": 2,
    "prompts": 3,
    "continuation": 12,
}


def main(arguments: list[str]) -> None:
    studies.main(STUDY, arguments)


def _parser() -> argparse.ArgumentParser:
    return studies.parser(STUDY)


def _options(add: Any) -> None:
    for name in ("train", "valid", "test"):
        file = DATA / f"wikitext2.{name}.txt.gz"
        add(f"--{name}", type=Path, default=file, help=f"text, plain or .gz; {file} unless told")
    add("--steps", type=int, help="of training")
    add("--lr", type=float, help="learning rate")
    add("--threads", type=int, default=2, help="of torch; 2 unless told")
    add("--only", help="arms, split by commas; all unless told")
    add("--quick", action="store_true", help="a smoke test")


def _begin(options: argparse.Namespace) -> Experiment:
    # Read when torch is loaded: threads that spin make a busy machine slower still.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from bench.memory_study_data import describe, read_texts

    torch.set_num_threads(options.threads)
    changes: dict[str, Any] = dict(QUICK) if options.quick else {}
    changes |= {n: getattr(options, n) for n in ("steps", "lr") if getattr(options, n) is not None}
    recipe = Recipe(**changes)
    if recipe.steps * recipe.batch > recipe.pool:
        sys.exit(f"A run has at most {recipe.pool // recipe.batch} steps, got {recipe.steps}.")
    texts = read_texts({name: getattr(options, name) for name in ("train", "valid", "test")})

    @cache  # not where all runs are there
    def study() -> Any:
        return _loaded(texts, recipe, options.out)

    return Experiment(
        settings=describe(texts, recipe),
        arms=list(ARMS),
        make=lambda arm, seed: study().human() if seed is None else study().run(arm, seed),
        once=[HUMAN],
        told=_told,
    )


def _loaded(texts: Any, recipe: Recipe, folder: Path) -> Any:
    import copy

    import wideneck as wn
    from bench.memory_study_data import corpus
    from bench.memory_study_run import Study
    from wideneck.models import default_model, load_language_model

    loaded = load_language_model(default_model())
    model = loaded.model.eval()
    found = corpus(texts, loaded, recipe, folder / "states.safetensors")
    judge = copy.deepcopy(model)
    return Study(wn.attach_memory(model), judge, loaded.tokenizer, found, recipe)


def _told(line: Line) -> str:
    scores = {name: sum(values) / len(values) for name, values in line["scores"].items()}
    text = " ".join(f"{name} {value:.4f}" for name, value in scores.items())
    setting = ", ".join(
        f"{name} {t:.2f} {b:.2f}" for name, (t, b) in line["settings"].items() if name != "model"
    )
    seconds = " + ".join(f"{value:.0f} s" for value in line["seconds"])
    return f"{line['arm']}, seed {line['seed']}: {text}; {setting}; {seconds}"


STUDY = Study(
    name="memory-study", about=str(__doc__), options=_options, begin=_begin, report=report
)
