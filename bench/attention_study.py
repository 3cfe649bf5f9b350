"""Small models trained from scratch under every attention normalizer: the same but for that.

    python -m bench attention-study --out OUT.json
    python -m bench attention-study report OUT.json

Each model is a Llama of a few hundred thousand parameters on the bytes of the default text, half
of its sequences with needles in them.  Measured are the loss of held-out documents in windows of
1, 2 and 4 training contexts, over the same bytes, and the share of needle values found in
sequences of 64 to 1,024 tokens.  A seed is an initialisation and an order of the data, the same
ones for every normalizer; each has its defaults of `wideneck.attention`, none is tuned.

Past the training context the rotary positions of Llama are new to a model, which costs every
normalizer something; "no positions" trains without them, stick-breaking because it is meant to
be used so, softmax for comparison.

OUT.json is written after each run, and what is in it is not run again, so that the same command
continues an interrupted study.  The defaults take some 40 minutes on 2 quiet cores, `--quick`,
which only shows that everything works, less than one.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

QUICK = {"steps": 4, "blocks": 4, "haystacks": 4}
WITHOUT_POSITIONS = ("softmax", "stickbreaking")


def main(arguments: list[str]) -> None:
    # Not at the top, and the rest neither: other benches measure processes without torch.
    from bench.attention_study_report import report

    if arguments[:1] == ["report"] and len(arguments) == 2:
        print(report(json.loads(Path(arguments[1]).read_text())))
        return
    print(report(_study(_parser().parse_args(arguments))))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench attention-study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, help="file of the results")
    add("--seeds", type=int, help="this many, from 0; 3 unless told, 1 with --quick")
    add("--steps", type=int, help="of training; 600 unless told")
    add("--threads", type=int, default=2, help="of torch; 2 unless told")
    add("--only", help="normalizers, split by semicolons; all unless told")
    add("--quick", action="store_true", help="a smoke test: 1 seed, 4 steps, little to evaluate")
    return parser


def _study(options: argparse.Namespace) -> dict[str, Any]:
    # Read when torch is loaded.  On a busy machine, threads that spin while they wait for one
    # another make a step ten times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from bench.attention_study_data import split
    from bench.attention_study_recipe import Recipe
    from bench.attention_study_run import run
    from wideneck.data import default_text
    from wideneck.files.writing import write_text

    torch.set_num_threads(options.threads)
    changes: dict[str, Any] = dict(QUICK) if options.quick else {}
    if options.steps is not None:
        changes["steps"] = options.steps
    recipe = Recipe(**changes)
    text = default_text()
    corpus = split(text, 4 * recipe.context, recipe.blocks)
    settings = {
        **vars(recipe),
        "lengths": list(recipe.lengths),
        "text": text.name,
        "text_sha256": text.sha256,
        "train_bytes": len(corpus.train),
        "held_out_bytes": sum(map(len, corpus.blocks)),
        "held_out_documents": corpus.num_documents,
    }
    machine = {"torch": torch.__version__, "threads": options.threads}
    study = _opened(options.out, settings)
    done = {(line["normalizer"], line["seed"]) for line in study["runs"]}
    # Seed by seed, so that an interrupted study has something to compare.
    for seed in range(options.seeds or (1 if options.quick else 3)):
        for name in _names(options.only):
            if (name, seed) in done:
                continue
            found = run(name, seed, corpus, recipe)
            study["runs"].append({"normalizer": name, "seed": seed, **found, "machine": machine})
            write_text(options.out, json.dumps(study))
            print(_progress(study["runs"][-1]), file=sys.stderr, flush=True)
    return study


def _names(only: str | None) -> list[str]:
    from bench.attention_study_run import NO_POSITIONS
    from wideneck.attention import names

    # Temperature is a softmax whose queries could learn to be longer.
    known = [name for name in names() if name != "temperature"]
    known += [name + NO_POSITIONS for name in WITHOUT_POSITIONS]
    asked = known if only is None else only.split(";")
    unknown = [name for name in asked if name not in known]
    if unknown:
        sys.exit(f"The study has {'; '.join(known)}, not {unknown[0]!r}.")
    return asked


def _opened(file: Path, settings: dict) -> dict[str, Any]:
    if not file.exists():
        return {"settings": settings, "runs": []}
    study = json.loads(file.read_text())
    if study["settings"] != settings:
        sys.exit(f"{file} was written with other settings: name another --out.")
    return study


def _progress(line: dict) -> str:
    text = " ".join(f"{key} {value['all']:.3f}" for key, value in line["text"].items())
    needles = " ".join(f"{key} {value['accuracy']:.2f}" for key, value in line["needles"].items())
    seconds = line["seconds_training"] + line["seconds_evaluating"]
    return f"{line['normalizer']}, seed {line['seed']}: {text}; {needles}; {seconds:.0f} s"
