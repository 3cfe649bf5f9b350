"""Options of the command line that are declared elsewhere."""

import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer

from wideneck.lab.option import Option


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
