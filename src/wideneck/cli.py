"""The command line.  Nothing heavy is imported before a command runs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from wideneck import __version__, auto  # noqa: F401  # auto: folders with our heads are models
from wideneck.commands.ending import ending
from wideneck.commands.own_options import taking
from wideneck.commands.streams import native_output_apart, prepare_streams
from wideneck.commands.usage import Commands
from wideneck.errors import WideneckError
from wideneck.files.text_file import size_in_bytes, texts_up_to
from wideneck.lab.registry import OPTIONS, PAPERS

app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False)

EXAMPLES = (
    "Examples: wideneck audit gpt2 --html gpt2.html   "
    "wideneck audit model.gguf --section head   "
    "wideneck audit --series runs/checkpoints --html head.html"
)

EVALUATIONS = (
    "Examples: wideneck evaluate runs/small --with neural-cache --with ranks   "
    "wideneck evaluate runs/small --split valid --with dynamic:scaling=old   "
    "wideneck evaluate gpt2 --text novel.txt --context 1024"
)


def _limit_texts(context: typer.Context, size: str) -> str:
    context.with_resource(texts_up_to(size_in_bytes(size)))  # while the command runs
    return size


MaxText = Annotated[
    str,
    typer.Option(
        metavar="SIZE",
        help="Refuse a larger text, unpacked: 500MB, 2GB or bytes.",
        callback=_limit_texts,
    ),
]
MAX_TEXT = "2GB"
Html = Annotated[Path | None, typer.Option(metavar="FILE", help="Write a report.")]
Json = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write every number; - prints it instead of the table."),
]


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
def audit(
    model: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]",
            help="A Hugging Face id (id@revision), a folder, a .safetensors, .gguf, .bin or .pt "
            "file; none for the default model. With --series: several, or a folder of them.",
        ),
    ] = None,
    series: Annotated[
        bool, typer.Option("--series", help="Follow the head over several checkpoints.")
    ] = False,
    text: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="UTF-8 text, perhaps gzip; a pipe is read whole. Default: Python's language "
            "reference.",
        ),
    ] = None,
    max_text: MaxText = MAX_TEXT,
    section: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="head, output, attention or memory; repeat for more. Default: head, output.",
        ),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Predictions to make, in windows of 512. Default: 4096. Truncations fitted to the "
            "data need four times the hidden size.",
        ),
    ] = None,
    argmaxable: Annotated[
        bool | None,
        typer.Option(
            help="Look for tokens that can never be predicted, the longest step. "
            "Default: yes; with --series no.",
            show_default=False,
        ),
    ] = None,
    normalizer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="With --section attention: the model under this normalizer too, untrained for it; "
            "topk:k=32 sets a parameter. Repeat for more.",
        ),
    ] = None,
    attention: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SETTING=VALUE",
            help="With --section attention: context=1024, num_queries=all, critical_up_to=100, "
            "vectors=hidden, ...; repeat for more.",
        ),
    ] = None,
    html: Html = None,
    json: Json = None,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, max=2**63 - 1, help="Seed of the choice of text.")
    ] = 0,
) -> None:
    """Measure a model's output layer and, if asked, its attention heads and its memory."""
    from wideneck.commands.destination import deliver, html_and_json
    from wideneck.commands.progress import ProgressBars

    models = model or []
    as_html, as_json = html_and_json(html, json, reads=[*models, text])
    if len(models) > 1 and not series:
        raise WideneckError(
            f"One MODEL was expected, {len(models)} came; --series follows a head over checkpoints."
        )
    if series and any(x is not None for x in (text, section, tokens, normalizer, attention)):
        raise WideneckError(
            "--series measures the weights alone; leave out --text, --section, --tokens, "
            "--normalizer and --attention."
        )
    with native_output_apart(), ProgressBars() as progress:
        if series:
            from wideneck.entry.series import audit_series

            report = audit_series(models, argmaxable=bool(argmaxable), seed=seed, progress=progress)
        else:
            from wideneck.commands.options import attention_settings, normalizer_option

            settings = None if attention is None else attention_settings(attention)
            normalizers = [normalizer_option(text) for text in normalizer or []]
            from wideneck.entry.audit import SECTIONS, audit

            report = audit(
                models[0] if models else None,
                text,
                section or SECTIONS,
                num_tokens=4096 if tokens is None else tokens,
                argmaxable=argmaxable is not False,
                attention=settings,
                normalizers=normalizers,
                seed=seed,
                progress=progress,
            )
    deliver(report.show, (as_html, report.to_html_text), (as_json, report.to_json_text))


@app.command()
def heads(
    hidden_size: Annotated[
        int, typer.Option(metavar="D", help="Columns of the output matrix.")
    ] = 576,
    vocab_size: Annotated[int, typer.Option(metavar="V", help="Rows of it, one a token.")] = 49152,
    json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the table; - prints it instead."),
    ] = None,
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
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml", help="What to train, and how.")],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The run's folder; the same command goes on there. Default: runs/RECIPE.",
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="In place of the recipe's: a file, a folder with a file for each split, or "
            "datasets:NAME:SUBSET.",
        ),
    ] = None,
    max_text: MaxText = MAX_TEXT,
    seed: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="In place of the recipe's.")
    ] = None,
    track: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="tensorboard or trackio, besides metrics.jsonl."),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write every number; - prints it instead of the lines."),
    ] = None,
) -> None:
    """Train a language model, or a head alone, from a recipe; interrupted, go on."""
    from wideneck.commands.train import train as run

    run(recipe, out=out, text=text, seed=seed, track_with=track, json=json)


@app.command(epilog=EVALUATIONS)
def evaluate(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN|MODEL]",
            help="A folder of `wideneck train`; or a Hugging Face id, a folder or file as for "
            "audit, with a head of wideneck or not; none for the default model.",
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="A file, read whole; a folder with a file for each split, or "
            "datasets:NAME:SUBSET. Default: the run's own; of a model Python's reference.",
        ),
    ] = None,
    max_text: MaxText = MAX_TEXT,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="train, valid or test. Default: test.")
    ] = None,
    besides: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="NAME",
            help="ranks; of a run also dynamic or neural-cache. dynamic:scaling=old, "
            "neural-cache:size=500 or ranks:num_contexts=8192 sets a number. Repeat for more.",
        ),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(metavar="N", help="Read no more than N tokens of the text. Default: all."),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="For a model: predictions in a window. Default: 512, if it has the positions.",
        ),
    ] = None,
    html: Html = None,
    json: Json = None,
) -> None:
    """Measure how well a model predicts a text: perplexity, bits per byte, and more."""
    from wideneck.commands.destination import deliver, html_and_json
    from wideneck.commands.options import besides_option
    from wideneck.commands.progress import ProgressBars

    as_html, as_json = html_and_json(html, json, reads=[model, text])
    asked = besides_option(besides or [])
    from wideneck.commands.evaluate import evaluate as run

    with native_output_apart(), ProgressBars(time_left=True) as progress:
        found = run(
            model,
            text,
            split=split,
            dynamic=asked.dynamic,
            cache_size=asked.cache_size,
            num_contexts=asked.num_contexts,
            num_tokens=tokens,
            context=context,
            progress=progress,
        )
    deliver(found.show, (as_html, found.to_html_text), (as_json, found.to_json_text))


@app.command()
@taking(OPTIONS)
def reproduce(
    paper: Annotated[str, typer.Argument(metavar="PAPER", help=f"{', '.join(PAPERS)}.")],
    scale: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="small: minutes on 2 cores. paper: as in the paper, mostly for a GPU. Default: "
            "small; histalign with --model: paper.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="ID", help="A Hugging Face id or folder. Default at paper: gpt2."),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="A text file, a folder with a file for each split, or datasets:NAME:SUBSET.",
        ),
    ] = None,
    max_text: MaxText = MAX_TEXT,
    seeds: Annotated[int, typer.Option(metavar="N", help="Runs of each kind.")] = 3,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Finished runs; the same command goes on there. Default: reproduce-PAPER-SCALE.",
        ),
    ] = None,
    html: Html = None,
    json: Json = None,
    **own: Any,
) -> None:
    """Repeat a paper's experiment over several seeds, its numbers beside ours."""
    from wideneck.commands.reproduce import reproduce as run

    named = {"scale": scale, "model": model, "text": text, "num_seeds": seeds, "out": out}
    run(paper, html=html, json=json, **named, **own)


def main() -> None:
    """Entry point: the user's mistake is one line and exit code 1, a wrong usage 2."""
    prepare_streams()
    with ending():
        app()
