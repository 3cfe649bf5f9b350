"""The command line.  Nothing heavy is imported before a command runs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from wideneck import __version__, auto  # noqa: F401  # auto: folders with our heads are models
from wideneck.commands.ending import ending
from wideneck.commands.streams import prepare_streams
from wideneck.commands.usage import (
    MAX_TEXT,
    PLACES,
    TEXTS,
    Commands,
    Html,
    Json,
    MaxText,
    check_seed,
    examples,
    taking,
)
from wideneck.lab.registry import OPTIONS, PAPERS
from wideneck.report.section import DEFAULT, SECTIONS

app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False)

EXAMPLES = examples(
    "wideneck audit gpt2 --html gpt2.html",
    "wideneck audit model.gguf --section head",
    "wideneck audit --series runs/checkpoints --html head.html",
)
EVALUATIONS = examples(
    "wideneck evaluate runs/small --with neural-cache --with ranks",
    "wideneck evaluate runs/small --split valid --with dynamic:scaling=old",
    "wideneck evaluate gpt2 --text novel.txt --context 1024",
)
COMPARISONS = examples(
    "wideneck compare gpt2 my-gpt2-with-mos --text novel.txt --html compare.html",
    "wideneck compare smollm2-rank-432",
    "wideneck compare --group 'runs/softmax-*' --group 'runs/mos-*' --text test.txt",
)
WATCHES = examples(
    "wideneck watch watch.jsonl --html watch.html",
    "wideneck watch runs/small/metrics.jsonl",
)
REPRODUCTIONS = examples(
    "wideneck reproduce histalign --html histalign.html",
    "wideneck reproduce sigsoftmax --text wikitext2/ --seeds 1",
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"wideneck {__version__}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and stop.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Measure what normalization costs a language model, and replace it."""


@app.command(epilog=EXAMPLES)
@taking(PLACES)
def audit(
    model: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL",
            help="A Hugging Face id (id or id@revision), a folder, or a .safetensors, .gguf, .bin "
            "or .pt file. Without it SmolLM2-135M-Instruct is measured. With --series: several of "
            "them, or one folder that holds them.",
        ),
    ] = None,
    series: Annotated[
        bool,
        typer.Option(
            "--series",
            help="Follow the output layer over several checkpoints; the weights alone are "
            "measured, without a text.",
        ),
    ] = False,
    text: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A UTF-8 text, gzipped or not; a pipe is read to its end. Default: Python's "
            "language reference.",
        ),
    ] = None,
    max_text: MaxText = MAX_TEXT,
    section: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help=f"Section to measure, one of {', '.join(SECTIONS)}. Repeat for more. Default: "
            f"{' and '.join(DEFAULT)}.",
        ),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Number of predictions to make, in windows of 512. Default: 4096, or on an "
            "accelerator four times the hidden size if that is more, as the fitted truncations "
            "need.",
        ),
    ] = None,
    argmaxable: Annotated[
        bool | None,
        typer.Option(
            help="Search for tokens that can never be predicted, the slowest part. Default: on; "
            "off with --series.",
            show_default=False,
        ),
    ] = None,
    verify_tokens: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Ask the model, by three prompts, for the N tokens that look least trained, and "
            "list with which probability it says them. The model is loaded for that, also with "
            "--section head alone. Default: none.",
        ),
    ] = None,
    normalizer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="With --section attention: also run the model under this normalizer, for which "
            "it was not trained, such as entmax15; topk:k=32 sets a parameter. docs/attention.md "
            "lists all. Repeat for more.",
        ),
    ] = None,
    attention: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SETTING=VALUE",
            help="With --section attention: change a setting, such as context=1024, "
            "num_queries=all, critical_up_to=100 or vectors=hidden. docs/attention.md lists all. "
            "Repeat for more.",
        ),
    ] = None,
    cost_limit: Annotated[
        float | None,
        typer.Option(
            metavar="NATS",
            help="With --section cost: choose the smallest head that changes predictions by no "
            "more than this divergence a token, such as 0.01.",
        ),
    ] = None,
    html: Html = None,
    json: Json = None,
    seed: Annotated[
        int,
        typer.Option(
            metavar="N",
            callback=check_seed,
            help="Random seed that chooses the passages of the text and draws the Gaussian "
            "matrices to compare with.",
        ),
    ] = 0,
    **where: Any,
) -> None:
    """Measure a model's output layer and, if asked, cheaper ones, attention heads and memory."""
    from wideneck.commands.audit import audited

    audited(
        model or [],
        text,
        series=series,
        section=section,
        tokens=tokens,
        argmaxable=argmaxable,
        verify_tokens=verify_tokens,
        normalizer=normalizer,
        attention=attention,
        cost_limit=cost_limit,
        html=html,
        json=json,
        seed=seed,
        where=where,
    )


@app.command()
def heads(
    hidden_size: Annotated[
        int, typer.Option(metavar="D", help="Hidden size: columns of the output matrix.")
    ] = 576,
    vocab_size: Annotated[
        int,
        typer.Option(metavar="V", help="Vocabulary size: rows of that matrix, one per token."),
    ] = 49152,
    json: Json = None,
) -> None:
    """List every output layer: formula, parameters, rank bound, cost, paper."""
    from wideneck.commands.destination import Destination, deliver
    from wideneck.commands.heads import rows, show
    from wideneck.files.writing import json_text
    from wideneck.report.console import PlainConsole

    table = rows(hidden_size, vocab_size)
    content = {"hidden_size": hidden_size, "vocab_size": vocab_size, "heads": table}
    deliver(
        lambda: show(hidden_size, vocab_size, PlainConsole()),
        (Destination.of(json), lambda: json_text(content)),
    )


@app.command()
def train(
    recipe: Annotated[
        Path,
        typer.Argument(metavar="RECIPE.toml", help="The file that says what to train, and how."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the run; the same command resumes the run in it. Default: runs/RECIPE.",
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(metavar="PATH", help=f"Text to use in place of the recipe's: {TEXTS}."),
    ] = None,
    max_text: MaxText = MAX_TEXT,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N", callback=check_seed, help="Random seed to use in place of the recipe's."
        ),
    ] = None,
    track: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Log to tensorboard or trackio as well as to metrics.jsonl."
        ),
    ] = None,
    json: Json = None,
) -> None:
    """Train a language model, or only its head, from a recipe; an interrupted run is resumed."""
    from wideneck.commands.train import train as run

    run(recipe, out=out, text=text, seed=seed, track_with=track, json=json)


@app.command(epilog=WATCHES)
def watch(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="The lines that wideneck.Watch(file=...) writes, or the metrics.jsonl of a run "
            "whose recipe has a [watch] table. The run may still be going.",
        ),
    ],
    html: Html = None,
    json: Json = None,
) -> None:
    """Show what was watched of an output layer while its model was trained."""
    from wideneck.commands.watch import watch as run

    run(file, html=html, json=json)


@app.command(epilog=EVALUATIONS)
@taking(PLACES)
def evaluate(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN|MODEL",
            help="A folder that `wideneck train` has written; or a Hugging Face id, a folder or a "
            "file, as for audit, with its own head or one of wideneck. Without it "
            "SmolLM2-135M-Instruct is evaluated.",
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help=f"Text to predict: {TEXTS}. A file is read whole. Default: the text that a run "
            "was trained on; for a model, Python's language reference.",
        ),
    ] = None,
    max_text: MaxText = MAX_TEXT,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Split of the text: train, valid or test. Default: test."
        ),
    ] = None,
    besides: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="NAME",
            help="Also measure ranks; of a run, dynamic or neural-cache too. Settings follow a "
            "colon, as in dynamic:scaling=old, neural-cache:size=500 or ranks:num_contexts=8192. "
            "Repeat for more.",
        ),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(metavar="N", help="Read at most N tokens of the text. Default: all of it."),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="For a model: number of predictions in a window. Default: 512, or fewer if the "
            "model has positions for fewer.",
        ),
    ] = None,
    html: Html = None,
    json: Json = None,
    **where: Any,
) -> None:
    """Measure how well a model predicts a text: perplexity, bits per byte, and more."""
    from wideneck.commands.evaluate import evaluated

    evaluated(
        model,
        text,
        split=split,
        besides=besides or [],
        tokens=tokens,
        context=context,
        html=html,
        json=json,
        where=where,
    )


@app.command(epilog=COMPARISONS)
@taking({name: PLACES[name] for name in ("device", "dtype", "batch")})
def compare(
    model: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL...",
            help="Two or more of: a Hugging Face id, a folder, a run of `wideneck train`, a .gguf "
            "or .bin file. Each is compared with the first. One alone is compared with "
            "SmolLM2-135M-Instruct.",
        ),
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="In place of MODEL: all models whose paths match, such as 'runs/mos-*', as one "
            "group, with intervals over its models. Repeat for more.",
        ),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A UTF-8 text, gzipped or not, that all models predict. Default: Python's "
            "language reference.",
        ),
    ] = None,
    max_text: MaxText = MAX_TEXT,
    tokens: Annotated[
        int | None,
        typer.Option(metavar="N", help="Number of predictions of each model. Default: 16384."),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Number of predictions in a window, before the context starts anew. Default: 512.",
        ),
    ] = None,
    html: Html = None,
    json: Json = None,
    seed: Annotated[
        int,
        typer.Option(
            metavar="N",
            callback=check_seed,
            help="Random seed that chooses the passages of the text, as in an audit.",
        ),
    ] = 0,
    **where: Any,
) -> None:
    """Tell models apart on one text: which is better, by how much, and on which tokens."""
    from wideneck.commands.compare import compared

    compared(
        model or [],
        group or [],
        text,
        num_tokens=tokens,
        context=context,
        seed=seed,
        html=html,
        json=json,
        where=where,
    )


@app.command(epilog=REPRODUCTIONS)
@taking(OPTIONS)
def reproduce(
    paper: Annotated[
        str, typer.Argument(metavar="PAPER", help=f"Which paper: one of {', '.join(PAPERS)}.")
    ],
    scale: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="small: runs in minutes on 2 cores. paper: as in the paper, mostly for a GPU. "
            "Default: small, but paper for histalign with --model.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="What to measure or to train: a Hugging Face id or a folder; for sigsoftmax lstm "
            "or transformer. docs/reproduce.md has each paper's default.",
        ),
    ] = None,
    text: Annotated[str | None, typer.Option(metavar="PATH", help=f"Text to use: {TEXTS}.")] = None,
    max_text: MaxText = MAX_TEXT,
    seeds: Annotated[
        int, typer.Option(metavar="N", help="Number of runs of each kind, one per random seed.")
    ] = 3,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for the finished runs; the same command goes on from those in it. "
            "Default: reproduce-PAPER-SCALE, or reproduce-histalign-TASK-SCALE.",
        ),
    ] = None,
    html: Html = None,
    json: Json = None,
    **own: Any,
) -> None:
    """Repeat a paper's experiment over several seeds and show the paper's numbers beside ours."""
    from wideneck.commands.reproduce import reproduce as run

    named = {"scale": scale, "model": model, "text": text, "num_seeds": seeds, "out": out}
    run(paper, html=html, json=json, **named, **own)


def main() -> None:
    """Entry point: the user's mistake is one line and exit code 1, a wrong usage 2."""
    prepare_streams()
    with ending():
        app()
