"""Metrics sent to TensorBoard or trackio, besides the file that every run writes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from wideneck.errors import WideneckError
from wideneck.registry import did_you_mean
from wideneck.training.recipe import Recipe

TRACKERS = ("tensorboard", "trackio")


def check_tracker(name: str | None) -> None:
    """Refuse an unknown tracker, or one that is not installed, before the work."""
    if name is None:
        return
    if name not in TRACKERS:
        raise WideneckError(f"No tracker is called '{name}'.{did_you_mean(name, list(TRACKERS))}")
    if find_spec(name) is None:
        raise WideneckError(f"{name} is not installed: pip install {name}.")


@contextmanager
def tracker(
    name: str | None, folder: Path, recipe: Recipe
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that takes a line of metrics; it does nothing where no tracker is named."""
    check_tracker(name)
    if name is None:
        yield lambda line: None
    elif name == "tensorboard":
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(folder / "tensorboard")) as writer:
            yield lambda line: _to_tensorboard(writer, line)
    else:
        import trackio  # pyrefly: ignore[missing-import]

        trackio.init(project="wideneck", name=folder.name, config=recipe.to_dict())
        try:
            yield lambda line: trackio.log(line, step=line["step"])
        finally:
            trackio.finish()


def _to_tensorboard(writer: Any, line: dict[str, Any]) -> None:
    for key, value in line.items():
        if key != "step" and isinstance(value, int | float):
            writer.add_scalar(key, value, line["step"])
