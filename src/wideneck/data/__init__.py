"""Text to tokens: windows for an audit, splits of ids for training.

Names are loaded on first use: the config imports no torch.  Only a text named `datasets:...` or a
tokenizer named by its id is downloaded; all else is read from this machine.
"""

from typing import TYPE_CHECKING

from wideneck.lazy import on_first_use

if TYPE_CHECKING:
    from wideneck.data.bytes_of_tokens import token_bytes as token_bytes
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
    from wideneck.data.text import text_of as text_of
    from wideneck.data.tokenizer import recipe_tokenizer as recipe_tokenizer
    from wideneck.data.vocabulary import Vocabulary as Vocabulary
    from wideneck.data.vocabulary import read_vocabulary as read_vocabulary
    from wideneck.data.vocabulary import write_vocabulary as write_vocabulary

__getattr__, __dir__ = on_first_use(__name__)
