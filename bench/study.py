"""Heads trained on real text: the states of a frozen model, the same tokens and seeds for all.

    python -m bench study TRAIN VALID --states STATES --out OUT.jsonl
    python -m bench study report OUT.jsonl

TRAIN and VALID are text files, plain or .gz, taken as they are: the word-level WikiText-2 keeps
its "<unk>" and " @-@ ".  The backbone is the default model, SmolLM2-135M-Instruct, and stays
frozen; only heads are trained, each from the model's own output matrix, so that "softmax" is the
model's own head trained on.  A seed is an order of the training tokens, and the random prior of a
mixture.  One line of OUT.jsonl is one finished (head, seed); what is there is not run again, so
that the same command continues an interrupted run.  The defaults take some 40 minutes on 2
quiet cores; `report` prints the table in Markdown again.

Every head has the same steps and, by default, one learning rate for its matrix; none is tuned.
The sigsoftmax of "sigsoftmax" and "moss" starts so far up that it is the softmax, and hardly moves
from there in a short run (the list below the table says how far); "gss" starts as the softmax too,
but with its bend amid the logits.  "moc" is the control of the mixtures: as many parameters, and
the rank of a softmax.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

HEADS = "softmax,scaled_softmax,sigsoftmax,gss,moc,moss"


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["report"] and len(arguments) == 2:
        print(report(_read(Path(arguments[1]))))
        return
    options = _parser().parse_args(arguments)
    # Not at the top: the other benches measure the memory of processes, and torch adds to it.
    from wideneck.errors import WideneckError

    try:
        _study(options)
    except WideneckError as error:
        sys.exit(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("train", type=Path)
    add("valid", type=Path)
    add("--train-tokens", type=int, default=98_304, help="98304 unless told")
    add("--valid-tokens", type=int, default=16_384, help="16384 unless told")
    add("--seeds", type=int, default=3, help="this many, from 0; 3 unless told")
    add("--heads", default=HEADS, help=f"{HEADS} unless told; also mos, sigsoftmax_bent")
    add("--batch", type=int, default=1024, help="tokens a step; 1024 unless told")
    add("--lr", type=float, default=1e-4, help="of the output matrix; 1e-4 unless told")
    add("--projection-lr", type=float, default=1e-4, help="of a mixture's; 1e-4 unless told")
    add("--scalar-lr", type=float, default=1e-2, help="of an activation's; 1e-2 unless told")
    add("--states", type=Path, required=True, help="folder that keeps the hidden states")
    add("--out", type=Path, required=True, help="file of the results, one line each")
    return parser


def _study(options: argparse.Namespace) -> None:
    import torch

    from bench.machine import speed
    from bench.study_heads import WINDOW, Recipe, run, starts
    from wideneck.data import read_text
    from wideneck.models.small.config import States
    from wideneck.training.state_cache import cached_states

    print(speed(), file=sys.stderr)
    wanted = States(
        train_tokens=options.train_tokens, valid_tokens=options.valid_tokens, window=WINDOW
    )
    texts = {"train": read_text(options.train), "valid": read_text(options.valid)}
    states = cached_states(wanted, texts, options.states)
    recipe = Recipe(
        batch=options.batch,
        lr=options.lr,
        projection_lr=options.projection_lr,
        scalar_lr=options.scalar_lr,
    )
    settings = {
        **states.about.to_dict(),
        **{name: text.name for name, text in texts.items()},
    } | vars(recipe)
    configs = starts(states)
    names = options.heads.split(",")
    unknown = [name for name in names if name not in configs]
    if unknown:
        sys.exit(f"The study has the heads {', '.join(configs)}, not {unknown[0]}.")
    if not 0 < options.batch <= options.train_tokens:
        sys.exit(f"A batch holds 1 to {options.train_tokens} tokens, got {options.batch}.")
    lines = _read(options.out) if options.out.exists() else []
    if any(line["settings"] != settings for line in lines):
        sys.exit(f"{options.out} was written with other settings: name another --out.")
    done = {(line["head"], line["seed"]) for line in lines}
    # Seed by seed, so that an interrupted run has something to compare.
    for seed in range(options.seeds):
        for name in names:
            if (name, seed) in done:
                continue
            line = {"head": name, "seed": seed, **run(configs[name], seed, states, recipe)}
            line["documents"] = states.splits["valid"].document.tolist()
            line["machine"] = {"torch": torch.__version__, "threads": torch.get_num_threads()}
            line["settings"] = settings
            with options.out.open("a") as file:
                file.write(json.dumps(line) + "\n")
            lines.append(line)
            print(
                f"{name}, seed {seed}: {line['loss_before']:.4f} -> {line['loss_after']:.4f} nats",
                file=sys.stderr,
            )
    print(report(lines))


def _read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def report(lines: list[dict]) -> str:
    """The table in Markdown, and what its columns are."""
    heads = list(dict.fromkeys(line["head"] for line in lines))
    by_head = {
        head: {line["seed"]: line for line in lines if line["head"] == head} for head in heads
    }
    titles = (
        "head | parameters added | loss before | loss after | minus softmax, over seeds | "
        "minus softmax, over documents | rank | rank 1e-3 / 1e-4 | s a step | tokens/s"
    )
    rows = [titles, "---" + " | ---:" * titles.count("|")]
    rows += [" | ".join(_row(head, by_head)) for head in heads]
    return "\n".join([*(f"| {row} |" for row in rows), "", *_learned(by_head), _caption(lines[0])])


def _row(head: str, by_head: dict[str, dict[int, dict]]) -> list[str]:
    runs = list(by_head[head].values())
    seconds = statistics.median(run["seconds_a_step"] for run in runs)
    seeds = by_head.get("softmax", {}).keys() & by_head[head].keys()
    pairs = [(by_head[head][seed], by_head["softmax"][seed]) for seed in sorted(seeds)]
    if head == "softmax" or not pairs:
        differences = ["", ""]
    else:
        differences = [_over_seeds(pairs), _over_documents(pairs)]
    return [
        head,
        f"{runs[0]['parameters_added']:,}",
        _span([run["loss_before"] for run in runs], 4),
        _mean_sd([run["loss_after"] for run in runs]),
        *differences,
        _span([run["rank_press"] for run in runs], 0),
        f"{_span([r['rank_1e3'] for r in runs], 0)} / {_span([r['rank_1e4'] for r in runs], 0)}",
        f"{seconds:.2f}",
        f"{runs[0]['settings']['batch'] / seconds:,.0f}",
    ]


def _over_seeds(pairs: list[tuple[dict, dict]]) -> str:
    from wideneck.papers.paired import paired

    values = [ours["loss_after"] - softmax["loss_after"] for ours, softmax in pairs]
    found = paired(values)
    if found.low is None or found.high is None:
        return f"{found.mean:+.4f}"
    return f"{_mean_sd(values, '+')} [{found.low:+.4f}, {found.high:+.4f}]"


def _over_documents(pairs: list[tuple[dict, dict]]) -> str:
    """The difference of each window, a mean over the seeds, as the audits' estimate takes it."""
    import torch

    from wideneck.audits.estimate import estimate

    by_window = [
        torch.tensor(ours["loss_by_window"]) - torch.tensor(softmax["loss_by_window"])
        for ours, softmax in pairs
    ]
    documents = torch.tensor(pairs[0][0]["documents"])
    found = estimate(torch.stack(by_window).mean(0)[:, None], documents)
    if found.low is None or found.high is None:
        return ""
    return f"[{found.low:+.4f}, {found.high:+.4f}]"


def _mean_sd(values: list[float], sign: str = "") -> str:
    mean = f"{statistics.mean(values):{sign}.4f}"
    return f"{mean} ± {statistics.stdev(values):.4f}" if len(values) > 1 else mean


def _span(values: list[float], digits: int) -> str:
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} - {high}"


def _learned(by_head: dict[str, dict[int, dict]]) -> list[str]:
    """Where the learned numbers went: one that stayed has not been tried."""
    lines = []
    for head, runs in by_head.items():
        for name, start in next(iter(runs.values()))["started"].items():
            ends = _span([run["learned"][name] for run in runs.values()], 3)
            lines.append(f"- {head}: {name} from {start:.3f} to {ends}")
    return [*lines, ""] if lines else []


def _caption(line: dict) -> str:
    settings, machine = line["settings"], line["machine"]
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
