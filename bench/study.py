"""Heads trained on real text: the states of a frozen model, the same tokens and seeds for all.

    python -m bench study TRAIN VALID --states STATES --out DIR
    python -m bench study report DIR

TRAIN and VALID are text files, plain or .gz, taken as they are: the word-level WikiText-2 keeps
its "<unk>" and " @-@ ".  The backbone is the default model, SmolLM2-135M-Instruct, and stays
frozen; only heads are trained, each from the model's own output matrix, so that "softmax" is the
model's own head trained on.  A seed is an order of the training tokens, and the random prior of a
mixture.  DIR gets a file for each finished run; what is there is not run again, so that the same
command continues an interrupted run.  The defaults take some 40 minutes on 2 quiet cores; `report`
prints the table in Markdown again.

Every head has the same steps and, by default, one learning rate for its matrix; none is tuned.
The sigsoftmax of "sigsoftmax" and "moss" starts so far up that it is the softmax, and hardly moves
from there in a short run (the list below the table says how far); "gss" starts as the softmax too,
but with its bend amid the logits.  "moc" is the control of the mixtures: as many parameters, and
the rank of a softmax.
"""

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

from bench.floor import speed
from bench.studies import ByArm, Experiment, Line, Study, by_arm, difference, mean_sd, span
from bench.study_heads import WINDOW, Recipe, run, starts
from bench.table import markdown
from wideneck.data import read_text
from wideneck.lab.spread import paired
from wideneck.models.small.config import States
from wideneck.training.state_cache import cached_states

HEADS = "softmax,scaled_softmax,sigsoftmax,gss,moc,moss"


def _options(add: Any) -> None:
    add("train", type=Path)
    add("valid", type=Path)
    add("--train-tokens", type=int, default=98_304, help="98304 unless told")
    add("--valid-tokens", type=int, default=16_384, help="16384 unless told")
    others = f"{HEADS} unless told; also mos, sigsoftmax_bent"
    add("--heads", dest="only", default=HEADS, help=others)
    add("--batch", type=int, default=1024, help="tokens a step; 1024 unless told")
    add("--lr", type=float, default=1e-4, help="of the output matrix; 1e-4 unless told")
    add("--projection-lr", type=float, default=1e-4, help="of a mixture's; 1e-4 unless told")
    add("--scalar-lr", type=float, default=1e-2, help="of an activation's; 1e-2 unless told")
    add("--states", type=Path, required=True, help="folder that keeps the hidden states")


def _begin(options: argparse.Namespace) -> Experiment:
    if not 0 < options.batch <= options.train_tokens:
        sys.exit(f"A batch holds 1 to {options.train_tokens} tokens, got {options.batch}.")
    print(speed(), file=sys.stderr)
    wanted = States(
        train_tokens=options.train_tokens, valid_tokens=options.valid_tokens, window=WINDOW
    )
    texts = {"train": read_text(options.train), "valid": read_text(options.valid)}
    states = cached_states(wanted, texts, options.states)
    rates = {name: getattr(options, name) for name in ("lr", "projection_lr", "scalar_lr")}
    recipe = Recipe(batch=options.batch, **rates)
    configs = starts(states)
    names = {name: text.name for name, text in texts.items()}
    return Experiment(
        settings=states.about.to_dict() | names | vars(recipe),
        arms=list(configs),
        make=lambda head, seed: run(configs[head], seed, states, recipe),
        told=lambda line: f"{line['loss_before']:.4f} -> {line['loss_after']:.4f} nats",
    )


def report(lines: list[Line]) -> str:
    """The table in Markdown, and what its columns are."""
    header = [
        "head",
        "parameters added",
        "loss before",
        "loss after",
        "minus softmax, over seeds",
        "minus softmax, over documents",
        "rank",
        "rank 1e-3 / 1e-4",
        "s a step",
        "tokens/s",
    ]
    by_head = by_arm(lines)
    rows = [_row(head, by_head) for head in by_head]
    return "\n".join([markdown(header, rows), "", *_learned(by_head), _caption(lines[0])])


def _row(head: str, by_head: ByArm) -> list[str]:
    runs = list(by_head[head].values())
    seconds = statistics.median(run["seconds_a_step"] for run in runs)
    rank, low, high = (
        span([run[name] for run in runs], 0, " - ")
        for name in ("rank_press", "rank_1e3", "rank_1e4")
    )
    return [
        head,
        f"{runs[0]['parameters_added']:,}",
        span([run["loss_before"] for run in runs], 4, " - "),
        mean_sd([run["loss_after"] for run in runs], 4),
        *(["", ""] if head == "softmax" else _differences(by_head, head)),
        rank,
        f"{low} / {high}",
        f"{seconds:.2f}",
        f"{runs[0]['study']['batch'] / seconds:,.0f}",
    ]


def _differences(by_head: ByArm, head: str) -> list[str]:
    """To the softmax: of each seed, and of each window as a mean over the seeds."""
    found = difference(
        by_head[head],
        by_head.get("softmax", {}),
        lambda line: line["loss_by_window"],
        groups=lambda line: line["documents"],
    )
    if found is None:
        return ["", ""]
    by_seed, low, high = found
    shown, over = mean_sd(by_seed, 4, "+"), paired(by_seed)
    if over.low is not None:
        shown += f" [{over.low:+.4f}, {over.high:+.4f}]"
    return [shown, "" if low is None else f"[{low:+.4f}, {high:+.4f}]"]


def _learned(by_head: ByArm) -> list[str]:
    """Where the learned numbers went: one that stayed has not been tried."""
    lines = []
    for head, runs in by_head.items():
        for name, start in next(iter(runs.values()))["started"].items():
            ends = span([run["learned"][name] for run in runs.values()], 3, " - ")
            lines.append(f"- {head}: {name} from {start:.3f} to {ends}")
    return [*lines, ""] if lines else []


def _caption(line: dict) -> str:
    settings, machine = line["study"], line["machine"]
    return (
        f"{settings['model']}, frozen; heads trained on {settings['train_tokens']:,} tokens of "
        f"{settings['train']} in steps of {settings['batch']:,}, losses in nats a token on "
        f"{settings['valid_tokens']:,} tokens of {settings['valid']}, windows of "
        f"{settings['window']}; float32, AdamW, learning rates {settings['lr']:g} (matrix), "
        f"{settings['projection_lr']:g} (projections), {settings['scalar_lr']:g} (learned numbers "
        f"of activations).  ±: standard deviation over seeds; intervals: 95 %, over seeds "
        "Student's t, over documents as in docs/evaluate.md.  Rank: "
        f"of the log-probabilities of {line['rank_contexts']:,} contexts, singular values above "
        "the tolerance of Press et al. 2007; 1e-3 / 1e-4: fewest squared singular values that sum "
        f"to 1 - 1e-3 / 1 - 1e-4 of all.  torch {machine['torch']}, {machine['threads']} threads."
    )


STUDY = Study(name="study", about=__doc__, options=_options, begin=_begin, report=report)
main, _parser = STUDY.main, STUDY.parser
