"""One run of a recipe: from the text to the trained and measured model in a folder."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from wideneck.audits.states import Progress
from wideneck.models.small.config import States
from wideneck.report.provenance import command, versions
from wideneck.training.batches import Observation
from wideneck.training.folder import RunFolder
from wideneck.training.language_task import language_task
from wideneck.training.loop import Show, Trainer, mean_nll, perplexity
from wideneck.training.processes import in_order, started
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
    observe: Observation | None = None,
) -> dict[str, Any]:
    """Train, or go on, or give the result of a run that is finished.

    Args:
        recipe: what and how.
        out: the run's folder; made if it is missing.
        show: told of every step, on the first process.
        progress: told of what comes before, such as a pass over the text.
        track_with: "tensorboard" or "trackio" besides the file of metrics.
        about: more for the result, such as where the recipe is from.
        observe: what else is measured on the way.

    Returns:
        The result as result.json holds it.

    Raises:
        WideneckError: anything that the user can mend; what is in the folder stays.
    """
    accelerator = started()
    first = accelerator.is_main_process
    folder = in_order(accelerator, lambda: RunFolder(out, recipe.to_dict(), first=first))
    try:
        found = folder.result()
        if found is not None:
            return found
        share = (accelerator.process_index, accelerator.num_processes)
        build = states_task if isinstance(recipe.model, States) else language_task
        torch.manual_seed(recipe.seed)
        made = in_order(accelerator, lambda: build(recipe, out, share, progress))
        task = replace(made, observe=observe)
        with tracker(track_with if first else None, out, recipe) as track:
            trainer = Trainer(
                task,
                recipe,
                folder,
                accelerator,
                show if first else lambda share, loss, speed: None,
                track,
                progress if first else None,
            )
            standing = trainer.train()
        assert standing.best is not None  # a run ends with an evaluation
        result: dict[str, Any] = {
            "valid_loss": standing.history[standing.best],
            "valid_losses": standing.history,
            "best_evaluation": standing.best + 1,
            "averaged": trainer.averaging.started,
            "epochs": round(trainer.epochs, 6),
            "steps": standing.step,
            "tokens": standing.num_tokens,
            "seconds": round(standing.seconds, 2),
            "tokens_per_second": round(standing.num_tokens / max(standing.seconds, 1e-9), 1),
            "num_parameters": sum(p.numel() for p in trainer.plain.parameters()),
            **task.about,
        }
        best = trainer.best()
        if task.test is not None:
            loss = mean_nll(best, task.test, accelerator.device)
            result |= {"test_loss": loss, "test_perplexity": perplexity(loss)}
        result["valid_perplexity"] = perplexity(result["valid_loss"])
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
