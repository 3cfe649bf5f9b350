"""`wideneck evaluate`: how well a model predicts a text, and by which conventions."""

import os
from pathlib import Path
from typing import Any

from torch import nn

from wideneck.audits.states import Progress
from wideneck.commands.evaluate_model import evaluate_model
from wideneck.commands.evaluate_run import evaluate_run
from wideneck.commands.evaluated_text import chosen_text, the_default_text
from wideneck.errors import WideneckError
from wideneck.evaluation.config import DynamicEvaluation
from wideneck.evaluation.results import Evaluation
from wideneck.training.folder import is_run


def evaluate(
    model: str | os.PathLike | nn.Module | None = None,
    text: str | os.PathLike | None = None,
    *,
    split: str | None = None,
    dynamic: DynamicEvaluation | None = None,
    cache_size: int | None = None,
    num_contexts: int | None = None,
    num_tokens: int | None = None,
    context: int | None = None,
    tokenizer: Any = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Perplexity and bits per byte, and what else is asked for.

    Args:
        model: a folder of `wideneck train`; or a Hugging Face id (`id@revision`), a folder, a
            file, a model in memory, or None for the default model, with a head of wideneck or not.
        text: a file, read whole; a folder of splits or `datasets:NAME`; or None for a run's own
            text, for a model the reference of the Python language.
        split: "train", "valid" or "test", the default, where the text has splits.
        dynamic: of a run: the numbers of dynamic evaluation; its statistics are from the run's
            training split.
        cache_size: of a run: pairs in a neural cache, whose theta and weight are fitted on the
            run's validation split.
        num_contexts: rows of the matrix of log-probabilities whose ranks are measured, at equal
            distances over the text; all if there are fewer.
        num_tokens: read no more than so many from the start of the text.
        context: of a model: predictions in a window; None for 512, or as many as it has positions
            for.  A run's is its own.
        tokenizer: of a model in memory.
        progress: called as progress(stage, done, total).

    Cost: one pass over the text; neural cache: one over the validation split and one over the text;
    dynamic evaluation: a training step for every `segment` tokens of the text, one row, and one
    for every 500 of the training split; ranks: 2 N^2 V operations for N contexts and V tokens.

    Raises:
        WideneckError: the model or the text cannot be read, or something is asked for that is not
            offered for it.
    """
    for name, number in (("tokens", num_tokens), ("context", context)):
        if number is not None and number < 1:
            raise WideneckError(f"An evaluation needs --{name} of at least 1, got {number}.")
    if model is not None and not isinstance(model, nn.Module) and is_run(Path(model)):
        if context is not None:
            raise WideneckError(
                f"{os.fspath(model)} is a run, which reads a text as it was trained to: leave out "
                "--context."
            )
        return evaluate_run(
            Path(model),
            text=None if text is None else os.fspath(text),
            split=split,
            dynamic=dynamic,
            cache_size=cache_size,
            num_contexts=num_contexts,
            num_tokens=num_tokens,
            progress=progress,
        )
    if dynamic is not None or cache_size is not None:
        what = "Dynamic evaluation" if cache_size is None else "A neural cache"
        raise WideneckError(
            f"{what} is for a folder of `wideneck train`; of any other model there are the "
            "perplexity, bits per byte and ranks."
        )
    chosen = the_default_text(split) if text is None else chosen_text(os.fspath(text), split)
    return evaluate_model(
        model,
        chosen,
        tokenizer=tokenizer,
        num_contexts=num_contexts,
        num_tokens=num_tokens,
        context=context,
        progress=progress,
    )
