"""The strings behind the rows of an output layer."""

from typing import Any

from wideneck.errors import WideneckError
from wideneck.files.boundary import failing, reading, reason
from wideneck.models.folder import Folder
from wideneck.models.quiet import quiet_transformers

FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer_config.json", "tekken.json")
ENDINGS = (".model", ".tiktoken")
LARGEST_ID = 2**22
"""Sixteen times the largest vocabulary; beyond it a list of strings would be mostly empty."""


def load_tokenizer(folder: Folder, gguf_file: str | None = None) -> Any:
    """The tokenizer beside a model, or None where there are no files of one.

    The files are looked for first because transformers, given a config alone, may build an
    empty tokenizer.
    """
    if gguf_file is None and not any(x in FILES or x.endswith(ENDINGS) for x in folder.names()):
        return None
    from transformers import AutoTokenizer

    name, revision = folder.pretrained
    options = {} if gguf_file is None else {"gguf_file": gguf_file}
    # Two dozen tokenizer formats parse files of strangers here, each failing in its own way.
    with (
        failing(
            lambda error: (
                f"The tokenizer of {folder} cannot be loaded ({reason(error)}): download it "
                "again, install what it asks for, or give the weights file alone in a folder of "
                "its own."
            )
        ),
        quiet_transformers(),
    ):
        return AutoTokenizer.from_pretrained(
            name, revision=revision or "main", trust_remote_code=False, **options
        )


def token_strings(tokenizer: Any) -> list[str | None]:
    """Strings by id, up to the largest id in use; None for an id that no token has.

    Raises:
        WideneckError: its vocabulary cannot be read, or has an id that no vocabulary has.
    """
    name = type(tokenizer).__name__
    with reading(name, "its vocabulary", "give the model's own tokenizer"):
        vocabulary = tokenizer.get_vocab()
        ids = vocabulary.values()
        lowest, largest = min(ids, default=0), max(ids, default=-1)
    if lowest < 0 or largest > LARGEST_ID:
        wrong = lowest if lowest < 0 else largest
        raise WideneckError(
            f"{name} has the id {wrong:,} among {len(vocabulary):,} tokens, which no vocabulary "
            "has: its files are damaged; download them again."
        )
    strings: list[str | None] = [None] * (largest + 1)
    for string, token in vocabulary.items():
        strings[token] = string
    return strings
