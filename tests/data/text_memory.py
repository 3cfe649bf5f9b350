"""In a process of its own: what reading and encoding a text takes, in times of its size.

    python text_memory.py FILE WAY ...

prints the peak of memory above what stood there before, in bytes, for each of the ways in which a
command reads a text: audit, evaluate, words or tokens.
"""

import re
import sys
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from wideneck.commands.evaluated_text import chosen_text
from wideneck.data import Data, cut_windows, encode_corpus, encoded, read_corpus, read_text
from wideneck.evaluation.documents import windows_of


def byte_level() -> Any:
    """A byte-level BPE as GPT-2's, of bytes and a few words."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(["green bottles hanging on the wall"], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>")


def run(way: str, path: str, tokenizer: Any) -> None:
    """As the command does."""
    if way == "audit":
        cut_windows(read_text(path), tokenizer, num_tokens=4096, window=512)
    elif way == "evaluate":
        text = chosen_text(path, None)
        windows_of(text.documents, tokenizer, window=512, prefix=[0])
    else:
        encoded.recipe_tokenizer = lambda _: tokenizer
        encode_corpus(read_corpus(path), Data() if way == "words" else Data(tokens="bytes"))


def resident(what: str) -> int:
    """Bytes, of the line of /proc/self/status."""
    found = re.search(rf"{what}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return 1000 * int(found[1])


if __name__ == "__main__":
    path, *ways = sys.argv[1:]
    small = Path(path).with_suffix(".small")
    small.write_text("green bottles hanging on the wall\n" * 2000)
    tokenizer = byte_level()
    for way in ways:
        run(way, str(small), tokenizer)
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
        before = resident("VmRSS")
        run(way, path, tokenizer)
        print(way, resident("VmHWM") - before, flush=True)
