"""The parts of a memory's loss in the logs of transformers' Trainer."""

from typing import Any

from transformers import TrainerCallback

from wideneck.attached.swap import placed_memory
from wideneck.errors import WideneckError


class LogMemory(TrainerCallback):
    """Adds to every log what the memory did since the last one.

    `Trainer(..., callbacks=[wideneck.LogMemory()])`.  In training: `nll`, `nll_model_only`,
    `ranking_loss` and `cache_mass`, means over all targets, and `accuracy`, `accuracy_model_only`
    and `accuracy_cache_only`, over up to 32 targets of each micro-batch; after an evaluation the
    same with `eval_` in front, over all targets.  Callbacks that come earlier, such as that of
    TensorBoard, do not see them; to put this one in front of them:
    `trainer.callback_handler.callbacks.insert(0, LogMemory())`.
    """

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Refuse a model without a memory."""
        _memory(kwargs["model"])

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Extend the log that is about to be shown, and the one that the state keeps."""
        logs = kwargs["logs"]
        evaluated = any(name.startswith("eval_") for name in logs)
        if not evaluated and "loss" not in logs:
            return  # the summary at the end of a run
        prefix = "eval_" if evaluated else ""
        taken = _memory(kwargs["model"]).statistics.take(not evaluated)
        found = {f"{prefix}{name}": value for name, value in taken.items()}
        logs.update(found)
        if state.log_history:
            state.log_history[-1].update(found)


def _memory(model: Any) -> Any:
    wrapped = getattr(model, "module", model)  # by DistributedDataParallel
    memory = placed_memory(wrapped)
    if memory is None:
        raise WideneckError(
            f"LogMemory logs a memory, and this {type(wrapped).__name__} has none: call "
            "wideneck.attach_memory(model) first."
        )
    return memory
