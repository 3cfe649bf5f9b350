"""Recipes as TOML, one a run: `wideneck train` takes any of these files, or your own."""

from importlib import resources
from pathlib import Path


def shipped(name: str) -> Path:
    """The file of a recipe that comes with wideneck, such as "sigsoftmax-ptb"."""
    return Path(str(resources.files(__name__).joinpath(f"{name}.toml")))
