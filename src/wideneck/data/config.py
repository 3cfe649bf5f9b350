"""The [data] table of a recipe: which text, which tokens, which counts.  Imports no torch."""

from dataclasses import dataclass, field

from wideneck.errors import WideneckError
from wideneck.registry import check_count, check_option, shown

WORDS = "words"
"""The value of `tokens` for words between white space."""
DEFAULT_TOKENIZER = "default"
"""The value of `tokens` for the tokenizer of the default model."""
COUNTS = ("train", "valid", "test", "vocab_size")
"""What `expect` can name."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """The text that a model is trained on, and how it becomes tokens.

    Raises:
        WideneckError: a value of the wrong type or out of range, or `vocab_size` beside a
            tokenizer, which brings its own vocabulary.
    """

    text: str | None = None
    """A file, a folder of splits, `datasets:NAME` or `datasets:NAME:SUBSET` (see `read_corpus`);
    None for CPython's language reference."""
    tokens: str = WORDS
    """"words" (between white space, one <eos> a line), or a fast Hugging Face tokenizer: an id
    (`id` or `id@revision`), a folder, a tokenizer.json or .gguf file, or "default" for that of
    the default model."""
    vocab_size: int | None = None
    """Words only: how many to keep, the most frequent of the training text, <eos> and <unk>
    included; the rest become <unk>.  None keeps all; a text that has fewer words keeps all."""
    expect: dict[str, int] = field(default_factory=dict)
    """Counts that must come out: tokens of "train", "valid" and "test", each <eos> included, and
    "vocab_size"."""

    def __post_init__(self):
        if self.text is not None and not (isinstance(self.text, str) and self.text):
            raise WideneckError(f"data needs a path or name for text, got {shown(self.text)}.")
        if not (isinstance(self.tokens, str) and self.tokens):
            raise WideneckError(
                f'data needs "{WORDS}" or the name of a tokenizer for tokens, got '
                f"{shown(self.tokens)}."
            )
        if self.vocab_size is not None:
            check_count(lambda _: "data", self, "vocab_size", 3)
            if self.tokens != WORDS:
                raise WideneckError(
                    f'data.vocab_size is for tokens = "{WORDS}"; the tokenizer {self.tokens} '
                    "brings its own vocabulary: leave vocab_size out."
                )
        if not isinstance(self.expect, dict):
            raise WideneckError(
                f"data needs a table of counts for expect, got {shown(self.expect)}."
            )
        for name, count in self.expect.items():
            check_option(name, list(COUNTS), "data.expect")
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise WideneckError(
                    f"data.expect needs a whole number >= 1 for {name}, got {shown(count)}."
                )
