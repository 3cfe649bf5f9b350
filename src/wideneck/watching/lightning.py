"""Watch as a callback of Lightning, whose hooks have other names and other arguments."""

from importlib.util import find_spec
from typing import Any

from wideneck.errors import WideneckError


def lightning_callback(watch: Any) -> Any:
    """A callback that follows the module, and gives its numbers to the trainer's loggers.

    Raises:
        WideneckError: lightning is not installed.
    """
    if find_spec("lightning") is None:
        raise WideneckError("lightning is not installed: pip install lightning.")
    import lightning  # pyrefly: ignore[missing-import]

    class WatchCallback(lightning.Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            watch.follow(pl_module, trainer.global_step)

        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            found = watch.step(trainer.global_step + 1)
            for logger in trainer.loggers if found else []:
                named = {f"watch/{name}": value for name, value in found.items()}
                logger.log_metrics(named, trainer.global_step)

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            watch.close()

    return WatchCallback()
