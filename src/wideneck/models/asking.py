"""Runs a model on token ids alone, as every measurement of a stranger's model does."""

from typing import Any

import torch

from wideneck.errors import WideneckError
from wideneck.files.boundary import reason


def ask(model: Any, **inputs: Any) -> Any:
    """What the model returns.

    Raises:
        WideneckError: in the place of whatever a model raises that wants other inputs, such as
            images, or a shape of its own.
    """
    try:
        return model(**inputs)
    except (WideneckError, torch.OutOfMemoryError):
        raise
    # The model is anybody's; each raises what it likes.
    except Exception as error:
        raise WideneckError(
            f"{type(model).__name__} does not run on {' and '.join(inputs)} alone, by which "
            f"wideneck gets to know a model ({reason(error)}): give a model that predicts text "
            "from text."
        ) from error
