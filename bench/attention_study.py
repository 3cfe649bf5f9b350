"""Small models trained from scratch under every attention normalizer: the same but for that.

    python -m bench attention-study --out DIR
    python -m bench attention-study report DIR

Each model is a Llama of a few hundred thousand parameters on the bytes of the default text, half
of its sequences with needles in them.  Measured are the loss of held-out documents in windows of
1, 2 and 4 training contexts, over the same bytes, and the share of needle values found in
sequences of 64 to 1,024 tokens.  A seed is an initialisation and an order of the data, the same
ones for every normalizer; each has its defaults of `wideneck.attention`, none is tuned.

Past the training context the rotary positions of Llama are new to a model, which costs every
normalizer something; "no positions" trains without them, stick-breaking because it is meant to
be used so, softmax for comparison.

DIR gets a file for each finished run, which is not run again, so that the same command continues
an interrupted study.  The defaults take some 40 minutes on 2 quiet cores, `--quick`, which only
shows that everything works, less than one.
"""

import argparse
import os
from typing import Any

from bench import studies
from bench.attention_study_report import report
from bench.studies import Experiment, Line, Study

QUICK = {"steps": 4, "blocks": 4, "haystacks": 4}
WITHOUT_POSITIONS = ("softmax", "stickbreaking")


def main(arguments: list[str]) -> None:
    studies.main(STUDY, arguments)


def _parser() -> argparse.ArgumentParser:
    return studies.parser(STUDY)


def _options(add: Any) -> None:
    add("--steps", type=int, help="of training; 600 unless told")
    add("--threads", type=int, default=2, help="of torch; 2 unless told")
    add("--only", help="normalizers, split by semicolons; all unless told")
    add("--quick", action="store_true", help="a smoke test: 1 seed, 4 steps, little to evaluate")


def _begin(options: argparse.Namespace) -> Experiment:
    # Read when torch is loaded.  On a busy machine, threads that spin while they wait for one
    # another make a step ten times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from bench.attention_study_data import split
    from bench.attention_study_recipe import Recipe
    from bench.attention_study_run import NO_POSITIONS, run
    from wideneck.attention import names
    from wideneck.data import default_text

    torch.set_num_threads(options.threads)
    changes: dict[str, Any] = dict(QUICK) if options.quick else {}
    if options.steps is not None:
        changes["steps"] = options.steps
    recipe = Recipe(**changes)
    text = default_text()
    corpus = split(text, 4 * recipe.context, recipe.blocks)
    # Temperature is a softmax whose queries could learn to be longer.
    arms = [name for name in names() if name != "temperature"]
    return Experiment(
        settings={
            **vars(recipe),
            "text": text.name,
            "text_sha256": text.sha256,
            "train_bytes": len(corpus.train),
            "held_out_bytes": sum(map(len, corpus.blocks)),
            "held_out_documents": corpus.num_documents,
        },
        arms=[*arms, *(name + NO_POSITIONS for name in WITHOUT_POSITIONS)],
        make=lambda name, seed: run(name, seed or 0, corpus, recipe),
        seeds=1 if options.quick else 3,
        told=_told,
    )


def _told(line: Line) -> str:
    text = " ".join(f"{key} {value['all']:.3f}" for key, value in line["text"].items())
    needles = " ".join(f"{key} {value['accuracy']:.2f}" for key, value in line["needles"].items())
    seconds = line["seconds_training"] + line["seconds_evaluating"]
    return f"{line['arm']}, seed {line['seed']}: {text}; {needles}; {seconds:.0f} s"


STUDY = Study(
    name="attention-study", about=str(__doc__), options=_options, begin=_begin, report=report
)
