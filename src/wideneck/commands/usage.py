"""Commands and options as typer takes them: printable complaints, shared options, papers' own."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from wideneck.files.printable import printable
from wideneck.files.text_file import size_in_bytes, texts_up_to


class Commands(TyperGroup):
    """The commands, whose complaints about their usage quote arguments as they print."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the arguments in front of the command."""
        with _quoting():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Read the command's arguments, and run it."""
        with _quoting():
            return super().invoke(ctx)


@contextmanager
def _quoting() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # Of typer's errors, whose classes have had several homes; a shell's * may have put a
        # stranger's file name among the arguments.
        message = getattr(error, "message", None)
        if isinstance(message, str):
            vars(error)["message"] = printable(message)
        raise


def taking(options: Mapping[str, Any]) -> Callable[[Callable], Callable]:
    """Make these options, annotated for typer, what a command takes as its **keywords."""

    def decorated(command: Any) -> Callable:
        signature = inspect.signature(command)
        known = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        own = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
            for name, option in options.items()
        ]
        command.__signature__ = signature.replace(parameters=[*known, *own])
        return command

    return decorated


def examples(*commands: str) -> str:
    """An end of a help text; without blank lines they would be set as one paragraph."""
    return "\n\n".join(("Examples:", *commands))


def check_seed(given: int | None) -> int | None:
    """A seed as it was given, which PyTorch takes."""
    if given is not None and not 0 <= given < 2**63:
        raise typer.BadParameter(f"{given} is not a whole number from 0 to 2^63 - 1.")
    return given


def _limit_texts(context: typer.Context, size: str) -> str:
    context.with_resource(texts_up_to(size_in_bytes(size)))  # while the command runs
    return size


MaxText = Annotated[
    str,
    typer.Option(
        metavar="SIZE",
        help="Refuse a text that is larger than this when unpacked: 500MB, 2GB or a number of "
        "bytes.",
        callback=_limit_texts,
    ),
]
MAX_TEXT = "2GB"
Html = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Also write a report as one HTML file.")
]
Json = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write every number as JSON; - prints the JSON in place of the usual output.",
    ),
]
PLACES: dict[str, Any] = {
    "device": Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Where to compute: cpu, or an accelerator such as cuda:1. Default: an accelerator "
            "if there is one.",
        ),
    ],
    "dtype": Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Type in which the model runs: float32, bfloat16 or float16. Default: as stored "
            "on an accelerator, float32 on the CPU.",
        ),
    ],
    "device_map": Annotated[
        str | None,
        typer.Option(
            metavar="auto|FILE",
            help="Spread the model over devices, the CPU and the disk: auto, or a JSON file with a "
            "place for each module. docs/scale.md has examples.",
        ),
    ],
    "max_memory": Annotated[
        list[str] | None,
        typer.Option(
            metavar="DEVICE=SIZE",
            help="With --device-map auto: use at most this much of a device, as in 0=70GB or "
            "cpu=20GB. Repeat for more.",
        ),
    ],
    "batch": Annotated[
        str | None,
        typer.Option(
            metavar="N|auto",
            help="Windows of text to run at once. Default: one, or, where parts of the model come "
            "from elsewhere when their turn is, as many as memory allows.",
        ),
    ],
}
"""Where and how a model runs, for the commands that run one."""
TEXTS = "a file, a folder with one file for each split, or datasets:NAME[:SUBSET]"
