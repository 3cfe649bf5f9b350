"""A stranger's config.json, before transformers makes anything of it.

Configs build lists as long as their counts say (`["full_attention"] * num_hidden_layers`), and the
tokenizer's and the model's loader each read config.json, so the counts are looked at first.
"""

import re
from collections.abc import Mapping
from typing import Any

from wideneck.errors import WideneckError
from wideneck.files.json_object import check_json_file
from wideneck.models.folder import Folder, LocalFolder

CONFIG = "config.json"
COUNTS = re.compile(
    r"(^|[_.])(n_layer|n_head|layers|blocks|depths?|heads|experts|labels|classes"
    r"|(block|layer|head|expert)(_[a-z]+)?_count)([_.]|$)"
)
"""Words in the keys of counts: num_hidden_layers, n_head, block_count, decoder_layers.  Counts of
other things may be as large as they are: Ollama writes general.parameter_count into GGUF."""
MOST = 2**16
"""The largest such count.  A config checks a list of as many layers in a moment."""
READ_BY_TRANSFORMERS = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
)


def read_config(folder: Folder) -> dict[str, Any] | None:
    """The content of a folder's config.json; None where it has none.

    Raises:
        WideneckError: it is no JSON object, or a count in it is no count of a model's parts; a
            file that transformers reads besides it is larger than any of its kind.
    """
    names = folder.names()
    if isinstance(folder, LocalFolder):
        for name in names:
            if name in READ_BY_TRANSFORMERS:
                check_json_file(folder.path(name), f"{name} of {folder}")
    if CONFIG not in names:
        return None
    raw = folder.json(CONFIG)
    check_counts(raw, f"{CONFIG} of {folder}")
    return raw


def check_counts(raw: Mapping[str, Any], name: str) -> None:
    """Refuse counts that no model has, at any depth.

    Args:
        raw: what a JSON object or the metadata of a GGUF file holds.
        name: what messages call it.

    Raises:
        WideneckError: a key with one of the words of `COUNTS` holds a whole number beyond `MOST`
            either way.
    """
    waiting: list[tuple[str, Any]] = list(raw.items())
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.items()
        elif isinstance(value, list):
            waiting += [(key, one) for one in value if isinstance(one, dict | list | int)]
        elif type(value) is int and abs(value) > MOST and COUNTS.search(key):
            raise WideneckError(
                f"{name} says {key} = {value:,}, which no model has: it is damaged; download it "
                "again."
            )


def plain(config: Any) -> Any:
    """A config of transformers without a stranger's choice of what a model runs on and returns.

    Kernels that it names may be code on the hub: attention and experts run on torch's own.  A
    model without `return_dict` gives tuples, where every reader of its logits expects their name.
    """
    config._attn_implementation = config._experts_implementation = None
    config.return_dict = True
    return config
