"""Options of the command line that are declared elsewhere."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any


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
