"""The strings behind the rows of an output layer."""

from typing import Any

from wideneck.errors import WideneckError
from wideneck.files.boundary import reason
from wideneck.models.folder import Folder
from wideneck.models.quiet import quiet_transformers

FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer_config.json", "tekken.json")
ENDINGS = (".model", ".tiktoken")


def load_tokenizer(folder: Folder, gguf_file: str | None = None) -> Any:
    """The tokenizer beside a model, or None where there are no files of one.

    The files are looked for first because transformers, given a config alone, may build an
    empty tokenizer.
    """
    if gguf_file is None and not _present(folder.names()):
        return None
    from transformers import AutoTokenizer

    name, revision = folder.pretrained
    options = {} if gguf_file is None else {"gguf_file": gguf_file}
    try:
        with quiet_transformers():
            return AutoTokenizer.from_pretrained(
                name, revision=revision or "main", trust_remote_code=False, **options
            )
    # Two dozen tokenizer formats parse files of strangers here, each failing in its own way.
    except Exception as error:
        raise WideneckError(
            f"The tokenizer of {folder} cannot be loaded ({reason(error)}): install what it "
            "asks for, or give the weights file alone in a folder of its own."
        ) from error


def token_strings(tokenizer: Any) -> list[str | None]:
    """Strings by id, up to the largest id in use; None for an id that no token has."""
    strings: list[str | None] = [None] * (max(tokenizer.get_vocab().values(), default=-1) + 1)
    for string, token in tokenizer.get_vocab().items():
        strings[token] = string
    return strings


def _present(names: list[str]) -> bool:
    return any(name in FILES or name.endswith(ENDINGS) for name in names)
