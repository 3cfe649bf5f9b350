"""One run of a recipe: from the text to the trained and measured model in a folder."""

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from wideneck.audits.states import Progress
from wideneck.models.small.config import States
from wideneck.report.provenance import command, versions
from wideneck.training.folder import RunFolder
from wideneck.training.language_task import language_task
from wideneck.training.loop import Show, Trainer
from wideneck.training.recipe import Recipe
from wideneck.training.states_task import states_task
from wideneck.training.tracking import tracker


def run(
    recipe: Recipe,
    out: Path,
    *,
    show: Show,
    progress: Progress | None = None,
    track_with: str | None = None,
    about: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Train, or go on, or give the result of a run that is finished.

    Args:
        recipe: what and how.
        out: the run's folder; made if it is missing.
        show: told of every step.
        progress: told of what comes before, such as a pass over the text.
        track_with: "tensorboard" or "trackio" besides the file of metrics.
        about: more for the result, such as where the recipe is from.

    Returns:
        The result as result.json holds it.

    Raises:
        WideneckError: anything that the user can mend; what is in the folder stays.
    """
    accelerator = Accelerator()
    first = accelerator.is_main_process
    if first:  # before the others look into it
        folder = RunFolder(out, recipe.to_dict())
    accelerator.wait_for_everyone()
    if not first:
        folder = RunFolder(out, recipe.to_dict(), first=False)
    try:
        found = folder.result()
        if found is not None:
            return found
        share = (accelerator.process_index, accelerator.num_processes)
        torch.manual_seed(recipe.seed)
        build = states_task if isinstance(recipe.model, States) else language_task
        task = build(recipe, out, share, progress)
        with tracker(track_with, out, recipe) as track:
            trainer = Trainer(task, recipe, folder, accelerator, show, track)
            standing = trainer.train()
        result: dict[str, Any] = {
            "valid_loss": standing.history[standing.best or 0],
            "valid_losses": standing.history,
            "best_evaluation": (standing.best or 0) + 1,
            "averaged": trainer.averaging.started,
            "epochs": round(trainer.epochs, 6),
            "steps": standing.step,
            "tokens": standing.num_tokens,
            "seconds": round(standing.seconds, 2),
            "tokens_per_second": round(standing.num_tokens / max(standing.seconds, 1e-9), 1),
            "num_parameters": sum(p.numel() for p in trainer.plain.parameters()),
            **task.about,
        }
        if accelerator.num_processes == 1 and task.finish is not None:
            result |= task.finish(trainer.best())
        result["valid_perplexity"] = math.exp(min(result["valid_loss"], 700))
        result |= about or {}
        result |= {
            "threads": torch.get_num_threads(),
            "device": str(accelerator.device),
            "processes": accelerator.num_processes,
            "versions": versions(),
            "command": command(),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        if first:
            folder.finish(result)
        accelerator.wait_for_everyone()
        return result
    finally:
        folder.close()
