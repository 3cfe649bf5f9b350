"""A tokenizer of one character a token, and text for it."""

import string
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

CHARACTERS = ["?", *(c for c in string.printable[:95] if c != "?"), "\n"]


def character_tokenizer(*, bos: bool = False) -> PreTrainedTokenizerFast:
    """96 printable characters, "?" for all others; `bos` puts id 0 in front of every text."""
    inner = Tokenizer(
        models.WordLevel({c: i for i, c in enumerate(CHARACTERS)}, unk_token=CHARACTERS[0])
    )
    inner.pre_tokenizer = pre_tokenizers.Split(Regex("(?m)."), "isolated")
    if bos:
        inner.post_processor = processors.TemplateProcessing(
            single="? $A", special_tokens=[("?", 0)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=CHARACTERS[0])


def write_text(path: Path, documents: int = 6) -> Path:
    """Documents of some 700 characters each, apart by form feeds."""
    lines = (f"{k} green bottles hanging on wall {k * k}, line {k % 7}.\n" for k in range(100))
    words = "".join(lines)
    size = len(words) // documents
    path.write_text("\f".join(words[i * size : (i + 1) * size] for i in range(documents)))
    return path
