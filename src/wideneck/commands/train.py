"""`wideneck train`: a recipe to a trained model, or on from where it was interrupted."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wideneck.commands.destination import Destination, deliver
from wideneck.commands.same_bits import same_bits
from wideneck.errors import WideneckError
from wideneck.files.printable import printable
from wideneck.files.writing import json_text

if TYPE_CHECKING:
    from wideneck.training.recipe import Recipe

LEAST_WORDS = 3


def train(
    recipe: Path,
    *,
    out: Path | None = None,
    text: str | None = None,
    seed: int | None = None,
    track_with: str | None = None,
    json: Path | None = None,
) -> None:
    """Train and print what was found.

    Args:
        recipe: a TOML file.
        out: the run's folder; None for runs/ and the recipe's name, with the seed if it is given.
        text: in place of the recipe's.
        seed: in place of the recipe's.
        track_with: "tensorboard" or "trackio".
        json: file for every number; "-" prints them in place of the lines.

    Raises:
        WideneckError: the recipe, the text or the folder is not as it should be, or the loss is
            not finite.
    """
    same_bits()
    from wideneck.training.recipe_file import read_recipe
    from wideneck.training.tracking import check_tracker

    as_json = Destination.of(json, reads=[recipe, text])
    check_tracker(track_with)
    chosen = read_recipe(recipe, text=text, seed=seed, check=_check_model)
    as_json = Destination.of(json, reads=[recipe, chosen.data.text])

    import torch.distributed as dist
    from accelerate import PartialState

    from wideneck.commands.progress import ProgressBars, training_line
    from wideneck.training.run import run

    folder = out or Path("runs") / (recipe.stem if seed is None else f"{recipe.stem}-seed{seed}")
    try:
        with ProgressBars(time_left=True) as bars, training_line() as line:
            result = run(
                chosen,
                folder,
                show=line,
                progress=bars,
                track_with=track_with,
                about={"recipe": recipe.name},
            )
    except WideneckError:
        if PartialState().is_main_process:
            raise
        sys.exit(1)  # the first process says it
    if dist.is_initialized():
        dist.destroy_process_group()
    if not PartialState().is_main_process:
        return
    deliver(lambda: print(summary(folder, result)), (as_json, lambda: json_text(result)))


def _check_model(recipe: "Recipe") -> None:
    """What transformers says of the options, or of where a head starts, with lines at hand."""
    from wideneck.models.small.config import States, Transformer
    from wideneck.models.small.size import check_fits

    if isinstance(recipe.model, Transformer):
        from wideneck.models.small.transformer import hf_config

        hf_config(recipe.model, vocab_size=1)
    if isinstance(recipe.model, States):
        from wideneck.training.states_task import check_start

        check_start(recipe.head, recipe.model.start)
    else:  # once more with the words of the text, which are not counted yet
        check_fits(recipe.model, recipe.head, vocab_size=LEAST_WORDS)


def summary(folder: Path, result: dict[str, Any]) -> str:
    """What a run found, in a few lines."""
    lines = [
        f"{printable(str(folder))}: {result['num_parameters']:,} parameters, "
        f"{result['epochs']:g} epochs "
        f"({result['tokens']:,} tokens) in {result['seconds']:,.0f} s, "
        f"{result['tokens_per_second']:,.0f} tokens/s",
        f"  validation: {result['valid_loss']:.4f} nats a token, perplexity "
        f"{result['valid_perplexity']:.2f} (evaluation {result['best_evaluation']} of "
        f"{len(result['valid_losses'])})",
    ]
    if "test_loss" in result:
        lines.append(
            f"  test: {result['test_loss']:.4f} nats a token, perplexity "
            f"{result['test_perplexity']:.2f}"
        )
    return "\n".join(lines)
