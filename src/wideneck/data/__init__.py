"""Text to tokens: windows for an audit, splits of ids for training.

Names are loaded on first use: the config imports no torch.  Only a text named `datasets:...` or a
tokenizer named by its id is downloaded; all else is read from this machine.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wideneck.data.config import Data as Data
    from wideneck.data.corpus import Corpus as Corpus
    from wideneck.data.corpus import read_corpus as read_corpus
    from wideneck.data.encoded import Encoded as Encoded
    from wideneck.data.encoded import EncodedCorpus as EncodedCorpus
    from wideneck.data.encoded import encode_corpus as encode_corpus
    from wideneck.data.encoded import encode_documents as encode_documents
    from wideneck.data.text import Text as Text
    from wideneck.data.text import Windows as Windows
    from wideneck.data.text import cut_windows as cut_windows
    from wideneck.data.text import default_text as default_text
    from wideneck.data.text import read_text as read_text
    from wideneck.data.tokenizer import recipe_tokenizer as recipe_tokenizer
    from wideneck.data.vocabulary import Vocabulary as Vocabulary
    from wideneck.data.vocabulary import read_vocabulary as read_vocabulary
    from wideneck.data.vocabulary import write_vocabulary as write_vocabulary

_FILES = {
    "config": ("Data",),
    "corpus": ("Corpus", "read_corpus"),
    "encoded": ("Encoded", "EncodedCorpus", "encode_corpus", "encode_documents"),
    "text": ("Text", "Windows", "cut_windows", "default_text", "read_text"),
    "tokenizer": ("recipe_tokenizer",),
    "vocabulary": ("Vocabulary", "read_vocabulary", "write_vocabulary"),
}
_HOMES = {name: f"wideneck.data.{file}" for file, names in _FILES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
