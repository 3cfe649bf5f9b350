"""Training by the Trainer of transformers, which goes on where it was killed."""

import shutil
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import DistributedType
from transformers import Trainer, TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, get_last_checkpoint

from wideneck.errors import WideneckError
from wideneck.lab.jobs import Show
from wideneck.models.quiet import quiet_transformers


class Trained(Protocol):
    """What the recipes of all tasks have."""

    @property
    def num_steps(self) -> int | None:
        """Optimizer's steps; None: `num_epochs`."""

    @property
    def num_epochs(self) -> int | None: ...

    @property
    def batch_size(self) -> int:
        """Rows in each step."""

    @property
    def micro_batch(self) -> int:
        """Rows in each forward pass."""

    @property
    def learning_rate(self) -> float: ...

    @property
    def weight_decay(self) -> float: ...


def arguments(
    recipe: Trained, folder: Path, num_steps: int, warmup_steps: int, seed: int, save_steps: int
) -> dict[str, Any]:
    """Of `TrainingArguments`: AdamW, its rate falling linearly to 0, and nothing that is printed.

    Args:
        recipe: batches, rate and decay.
        folder: of the checkpoints.
        num_steps: see `steps`.
        warmup_steps: in which the rate rises linearly.
        seed: of the order of rows, and of dropout.
        save_steps: from one checkpoint to the next; the last alone is kept.
    """
    return {
        "output_dir": str(folder),
        "max_steps": num_steps,
        "per_device_train_batch_size": recipe.micro_batch,
        "gradient_accumulation_steps": recipe.batch_size // recipe.micro_batch,
        "learning_rate": recipe.learning_rate,
        "warmup_steps": warmup_steps,
        "weight_decay": recipe.weight_decay,
        "seed": seed,
        "logging_steps": max(1, num_steps // 50),
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": save_steps,
        "save_total_limit": 1,
        "report_to": [],
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
    }


def steps(recipe: Trained, num_rows: int) -> int:
    """How many steps the optimizer makes."""
    if recipe.num_steps is not None:
        return recipe.num_steps
    assert recipe.num_epochs is not None
    return max(1, recipe.num_epochs * num_rows // recipe.batch_size)


def go_on(trainer: Trainer, show: Show) -> None:
    """Train from the last checkpoint in the Trainer's folder on, or from the start.

    Raises:
        WideneckError: the loss is no longer finite, or the Trainer would train otherwise than the
            recipe says, on several devices or in another precision.
    """
    _check_alone(trainer)
    trainer.add_callback(_Told(show))
    trainer.pop_callback(PrinterCallback)
    folder = Path(str(trainer.args.output_dir))
    with quiet_transformers():
        trainer.train(resume_from_checkpoint=last_checkpoint(folder))


def _check_alone(trainer: Trainer) -> None:
    """Refuse what the machine or the environment would change in the training, unsaid."""
    accelerator, num_gpus = trainer.accelerator, trainer.args.n_gpu
    if num_gpus > 1 or accelerator.distributed_type != DistributedType.NO:
        found = f"{num_gpus} GPUs" if num_gpus > 1 else accelerator.distributed_type.value
        raise WideneckError(
            f"A run is trained by one process on one device, and the Trainer found {found}: start "
            "it without a launcher, and show it one GPU, such as by CUDA_VISIBLE_DEVICES=0."
        )
    if accelerator.mixed_precision != "no":
        raise WideneckError(
            f"Runs are trained in float32, and the environment asks for "
            f"{accelerator.mixed_precision}: unset ACCELERATE_MIXED_PRECISION."
        )


def last_checkpoint(folder: Path) -> str | None:
    """The last one; None before the first.  What a kill has left half-written is removed."""
    if not folder.is_dir():
        return None
    for one in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        if not (one / TRAINER_STATE_NAME).is_file():  # which is written last
            shutil.rmtree(one)
    return get_last_checkpoint(str(folder))


class _Told(TrainerCallback):
    """Progress, and an end where the loss is lost."""

    def __init__(self, show: Show):
        self.show = show

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self.show(state.global_step / state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
        if logs and "loss" in logs and not torch.tensor(float(logs["loss"])).isfinite():
            raise WideneckError(
                f"The loss is no longer finite at step {state.global_step} of {state.max_steps}."
            )
