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
import statistics
from collections import defaultdict
from collections.abc import Callable

from bench.attention_study_data import split
from bench.attention_study_run import NO_POSITIONS, Recipe, run
from bench.studies import ByArm, Experiment, Line, Runs, Study, by_arm, difference, mean_sd
from bench.table import markdown
from wideneck.attention import names
from wideneck.data import default_text

WITHOUT_POSITIONS = ("softmax", "stickbreaking")
BASELINE = "softmax"
TIMES = ("1x", "2x", "4x")


def _begin(options: argparse.Namespace) -> Experiment:
    recipe = Recipe(**STUDY.changes(options))
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
        make=lambda name, seed: run(name, seed, corpus, recipe),
        told=_told,
    )


def _told(line: Line) -> str:
    text = " ".join(f"{key} {value['all']:.3f}" for key, value in line["text"].items())
    needles = " ".join(f"{key} {value['accuracy']:.2f}" for key, value in line["needles"].items())
    seconds = line["seconds_training"] + line["seconds_evaluating"]
    return f"{text}; {needles}; {seconds:.0f} s"


def report(lines: list[Line]) -> str:
    """Losses, needles, what was learned, and what all of it is of."""
    runs = by_arm(lines)
    parts = [_losses(runs), _needles(runs), _learned(runs), _caption(lines)]
    return "\n\n".join(part for part in parts if part)


def _losses(by_name: ByArm) -> str:
    late = "past the context, "
    header = ["normalizer", *(f"loss {times}" for times in TIMES)]
    header += [f"minus {BASELINE} {times}" for times in TIMES]
    header += [f"{late}{times}" for times in TIMES[1:]] + ["s a step"]
    rows = [
        [
            name,
            *(_over_seeds(runs, times, lambda text: text["all"]) for times in TIMES),
            *(_difference(by_name, name, times) for times in TIMES),
            *(_over_seeds(runs, times, _late, "+") for times in TIMES[1:]),
            f"{statistics.median(run['seconds_a_step'] for run in runs.values()):.3f}",
        ]
        for name, runs in by_name.items()
    ]
    return markdown(header, rows)


def _over_seeds(runs: Runs, times: str, of: Callable[[dict], float], sign: str = "") -> str:
    return mean_sd([of(run["text"][times]) for run in runs.values()], 3, sign)


def _late(text: dict) -> float:
    """Past the context, minus the same bytes in windows of one context."""
    return text["beyond"] - text["beyond_at_1x"]


def _difference(by_name: ByArm, name: str, times: str) -> str:
    """From the baseline's run of the same seed."""
    pair = by_name[name], by_name.get(BASELINE, {})
    found = difference(*pair, lambda run: [run["text"][times]["all"]])
    return "" if found is None or name == BASELINE else mean_sd(found[0], 3, "+")


def _needles(by_name: ByArm) -> str:
    rows, lengths = [], []
    for name, runs in by_name.items():
        lengths = list(next(iter(runs.values()))["needles"])
        found = [[100 * run["needles"][n]["accuracy"] for run in runs.values()] for n in lengths]
        rows.append([name, *(mean_sd(values, 1) for values in found)])
    return markdown(["needles found, %", *lengths], rows)


def _learned(by_name: ByArm) -> str:
    """Where the learned numbers ended, over heads, layers and seeds."""
    lines = []
    for name, runs in by_name.items():
        ends: dict[str, list[float]] = defaultdict(list)
        for line in runs.values():
            for key, numbers in line["learned"].items():
                ends[key.split(".")[-1]] += numbers
        for kind, found in sorted(ends.items()):
            lines.append(f"- {name}: {kind} ends at {min(found):.2f} to {max(found):.2f}")
    return "\n".join(lines)


def _caption(runs: list[Line]) -> str:
    s = runs[0]["study"]
    machine = runs[-1]["machine"]
    early = round(s["steps"] * s["early_share"])
    seeds = len({line["seed"] for line in runs})
    baseline = next((r for r in runs if r["arm"] == BASELINE), runs[0])
    tokens = s["steps"] * s["batch"] * s["context"]
    return (
        f"Llama of {s['layers']} layers, {s['heads']} heads, width {s['hidden']}, "
        f"{baseline['parameters']:,} parameters, bytes as tokens, float32; trained from scratch on "
        f"{s['train_bytes']:,} bytes of {s['text']}, {s['steps']:,} steps of "
        f"{s['batch'] * s['context']:,} tokens ({tokens:,} in all), the first {early:,} in a "
        f"context of {s['early_context']}, the others of {s['context']}, half of the sequences "
        f"with needles; AdamW, learning rate {s['lr']:g}, cosine, gradients clipped at "
        f"{s['clip']:g}.  Loss: nats a byte on {s['held_out_bytes']:,} bytes of "
        f"{s['held_out_documents']} documents held out, the same bytes in windows of 1, 2 and 4 "
        "contexts; past the context: their positions past the training context, minus the same "
        "bytes in windows of one context, below 0 where the longer window helps.  Needles: values "
        f"of 2 bytes, all right, each the likeliest after the right ones before it, of 4 in each "
        f"of {s['haystacks']} sequences a length, text held out; a guess within the alphabets of "
        f"the key finds 0.4 %.  ±: standard deviation over {seeds} seeds; differences are of runs "
        f"of one seed.  Seconds: the median step at the context of {s['context']}, torch "
        f"{machine['torch']}, {machine['threads']} threads.  "
        "`python -m bench attention-study --out DIR`"
    )


STUDY = Study(
    name="attention-study",
    about=__doc__,
    begin=_begin,
    report=report,
    quick={"steps": 4, "blocks": 4, "haystacks": 4},
)
main, _parser = STUDY.main, STUDY.parser
