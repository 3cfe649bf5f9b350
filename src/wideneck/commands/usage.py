"""Commands and options as typer takes them: complaints fit to be printed, options of papers."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from wideneck.files.printable import printable
from wideneck.lab.option import Option


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


def taking(options: Iterable[Option]) -> Callable[[Callable], Callable]:
    """Make these options what a command takes as its **keywords."""
    annotated: Any = Annotated  # a value here, which no type checker is to read

    def decorated(command: Any) -> Callable:
        signature = inspect.signature(command)
        known = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        own = [
            inspect.Parameter(
                option.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=annotated[
                    option.kind | None, typer.Option(metavar=option.metavar, help=option.help)
                ],
            )
            for option in options
        ]
        command.__signature__ = signature.replace(parameters=[*known, *own])
        return command

    return decorated
