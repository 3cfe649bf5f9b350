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
import json
import os
import sys
from pathlib import Path
from typing import Any

DATA = Path("../shared/data")
QUICK = {
    "pool": 4,
    "valid": 2,
    "test": 2,
    "steps": 2,
    "prompts": 3,
    "continuation": 12,
}


def main(arguments: list[str]) -> None:
    # Not at the top, and the rest neither: other benches measure processes without torch.
    from bench.memory_study_report import report
    from wideneck.errors import WideneckError

    if arguments[:1] == ["report"] and len(arguments) == 2:
        print(report(_finished(Path(arguments[1]))))
        return
    try:
        print(report(_study(_parser().parse_args(arguments))))
    except WideneckError as error:
        sys.exit(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench memory-study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder of the results")
    for name in ("train", "valid", "test"):
        file = DATA / f"wikitext2.{name}.txt.gz"
        add(f"--{name}", type=Path, default=file, help=f"text, plain or .gz; {file} unless told")
    add("--seeds", type=int, default=3, help="this many, from 0; 3 unless told")
    add("--steps", type=int, help="of training")
    add("--lr", type=float, help="learning rate")
    add("--threads", type=int, default=2, help="of torch; 2 unless told")
    add("--only", help="arms, split by commas; all unless told")
    add("--quick", action="store_true", help="a smoke test")
    return parser


def _study(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    # Read when torch is loaded: threads that spin make a busy machine slower still.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from bench.memory_study_data import describe, read_texts
    from bench.memory_study_recipe import ARMS, Recipe
    from wideneck.files.writing import write_text

    torch.set_num_threads(options.threads)
    changes: dict[str, Any] = dict(QUICK) if options.quick else {}
    changes |= {n: getattr(options, n) for n in ("steps", "lr") if getattr(options, n) is not None}
    recipe = Recipe(**changes)
    arms = list(ARMS) if options.only is None else options.only.split(",")
    if unknown := [arm for arm in arms if arm not in ARMS]:
        sys.exit(f"The study has {', '.join(ARMS)}, not {unknown[0]}.")
    if recipe.steps * recipe.batch > recipe.pool:
        sys.exit(f"A run has at most {recipe.pool // recipe.batch} steps, got {recipe.steps}.")
    options.out.mkdir(parents=True, exist_ok=True)
    texts = read_texts({name: getattr(options, name) for name in ("train", "valid", "test")})
    # Through JSON, as what is read back.
    about = json.loads(json.dumps(describe(texts, recipe)))
    done = _finished(options.out)
    if any(line["about"] != about for line in done.values()):
        sys.exit(f"{options.out} was written with other settings: name another --out.")
    # Seed by seed, so that an interrupted study has something to compare.
    todo = [(arm, seed) for seed in range(options.seeds) for arm in arms]
    names = ["human", *(f"{arm}-{seed}" for arm, seed in todo)]
    if all(name in done for name in names):
        return done
    study = _loaded(texts, recipe, options.out)
    machine = {"torch": torch.__version__, "threads": options.threads}
    if "human" not in done:
        line = {**study.human(), "about": about, "machine": machine}
        write_text(options.out / "human.json", json.dumps(line))
    for arm, seed in todo:
        if f"{arm}-{seed}" not in done:
            line = {**study.run(arm, seed), "about": about, "machine": machine}
            write_text(options.out / f"{arm}-{seed}.json", json.dumps(line))
            print(_progress(line), file=sys.stderr, flush=True)
    return _finished(options.out)


def _loaded(texts: Any, recipe: Any, folder: Path) -> Any:
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


def _finished(folder: Path) -> dict[str, dict[str, Any]]:
    """The runs in a folder, by name."""
    return {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))}


def _progress(line: dict) -> str:
    scores = {name: sum(values) / len(values) for name, values in line["scores"].items()}
    text = " ".join(f"{name} {value:.4f}" for name, value in scores.items())
    setting = ", ".join(
        f"{name} {t:.2f} {b:.2f}" for name, (t, b) in line["settings"].items() if name != "model"
    )
    seconds = " + ".join(f"{value:.0f} s" for value in line["seconds"])
    return f"{line['arm']}, seed {line['seed']}: {text}; {setting}; {seconds}"
