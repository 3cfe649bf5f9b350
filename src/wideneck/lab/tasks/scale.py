"""At which scale a task of HistAlign runs, which follows from the model where it is not given."""

from wideneck.errors import WideneckError
from wideneck.lab.registry import Request


def scale_of(request: Request) -> str:
    """What is asked for; else "small", and "paper" for a model that the user names."""
    return request.scale or ("small" if request.model is None else "paper")


def scale_from_scratch(request: Request) -> str:
    """`scale_of` a task whose small scale makes its own model.

    Raises:
        WideneckError: a model is named for the small scale.
    """
    scale = scale_of(request)
    if scale == "small" and request.model is not None:
        raise WideneckError(
            f"--scale small trains a small model of its own from scratch: leave out --model, or "
            f"fine-tune {request.model} by --scale paper."
        )
    return scale
