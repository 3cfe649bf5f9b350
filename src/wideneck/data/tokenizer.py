"""The Hugging Face tokenizer that a recipe names; no model is loaded for it.

Cost: a second or so; for an id that is not in the local cache, a download of its tokenizer files.
"""

import os
from pathlib import Path
from typing import Any

from wideneck.data.config import DEFAULT_TOKENIZER
from wideneck.errors import WideneckError
from wideneck.files.boundary import reading
from wideneck.files.regular import size_of_regular
from wideneck.models.folder import Folder, LocalFolder
from wideneck.models.hub_folder import HubFolder
from wideneck.models.source import HUB_ID, resolve
from wideneck.models.tokens import load_tokenizer

ENDINGS = (".json", ".txt", ".model", ".tiktoken", ".jinja")
"""The endings of the files that a tokenizer is read from."""


def recipe_tokenizer(tokens: str) -> Any:
    """Load the fast tokenizer that `Data.tokens` names.

    Args:
        tokens: "default" for that of the default model, a folder, a tokenizer.json or .gguf file,
            or a Hugging Face id (`id` or `id@revision`).  What exists on disk wins over an id.

    Raises:
        WideneckError: there is no such tokenizer, it cannot be loaded, or it is a slow one.
    """
    folder, gguf_file = _find(tokens)
    try:
        tokenizer = load_tokenizer(folder, gguf_file)
    except WideneckError:
        # Without a network a hub folder is known by its weights, which no tokenizer needs.
        cached = _cached(folder)
        if cached is None:
            raise
        tokenizer = load_tokenizer(cached)
    if tokenizer is None:
        raise WideneckError(
            f'{tokens} holds no tokenizer: give a folder with tokenizer.json, or tokens = "words".'
        )
    if not tokenizer.is_fast:
        raise WideneckError(
            f"{tokens} has a slow tokenizer ({type(tokenizer).__name__}), which would take hours "
            "on a corpus: use one with a tokenizer.json."
        )
    return tokenizer


def _cached(folder: Folder) -> LocalFolder | None:
    """Where the local cache keeps the tokenizer of a model on the hub."""
    if not isinstance(folder, HubFolder):
        return None
    file, config = map(folder.cached, ("tokenizer.json", "tokenizer_config.json"))
    return LocalFolder(file.parent) if file and config else None


def _find(tokens: str) -> tuple[Folder, str | None]:
    if tokens == DEFAULT_TOKENIZER:
        source = resolve(None)
        return source.folder, source.file
    path = Path(os.path.expanduser(tokens))
    if os.path.isdir(path):  # unlike that of a Path, it takes any string
        return _regular(path), None
    there = os.path.exists(path)
    if there and path.suffix == ".gguf":
        size_of_regular(path, "a .gguf file")
        return LocalFolder(path.parent), path.name
    if there and path.name == "tokenizer.json":
        return _regular(path.parent), None
    if there or not HUB_ID.fullmatch(tokens):
        raise WideneckError(
            f'tokens = "{tokens}" is no tokenizer: expected "words", "default", a folder with '
            "tokenizer.json, that file or a .gguf file, or a Hugging Face id such as gpt2."
        )
    return HubFolder(tokens), None


def _regular(folder: Path) -> LocalFolder:
    """The folder, in which no file of a tokenizer is a pipe that hangs or a device without end."""
    with reading(folder, "the folder", "give another one"):
        for file in sorted(folder.iterdir()):
            if file.suffix in ENDINGS and os.path.exists(file) and not os.path.isdir(file):
                size_of_regular(file, "a file of a tokenizer")
    return LocalFolder(folder)
