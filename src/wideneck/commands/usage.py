"""Commands and options as typer takes them: complaints fit to be printed, options of papers."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from typer.core import TyperGroup

from wideneck.files.printable import printable


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
