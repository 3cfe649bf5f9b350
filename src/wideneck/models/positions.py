"""How many tokens a model can read at once, by its config and by its own table of positions.

`max_position_embeddings` is not that number everywhere: RoBERTa and its kind number positions from
`padding_idx + 1` on, so that two rows of the table are no positions of a text; and MPT calls it
`max_seq_len`.  Where a model has a table of learned positions, the table counts.
"""

import re
from typing import Any

from torch import nn

from wideneck.models.text_part import table_of_tokens, text_config

LIMITS = ("max_position_embeddings", "max_seq_len")
"""Configs that call it n_positions or otherwise answer to the first, too."""
TABLE = re.compile(r"wpe|(?!.*(relative|rel_)).*pos.*")
"""Names of tables of positions beside the embedding of tokens: wpe, embed_positions."""


def max_positions(model: Any) -> int | None:
    """The longest row of tokens that a model has positions for; None where nothing names a limit.

    Args:
        model: a language model, an encoder or a classifier of transformers.
    """
    config = text_config(model.config)
    said = [getattr(config, name, None) for name in LIMITS]
    found = [n for n in said if type(n) is int and n > 0][:1]
    found += [_usable(table) for table in _tables(model)]
    return min(found) if found else None


def _usable(table: nn.Embedding) -> int:
    offset = getattr(table, "offset", None)  # OPT and BART: rows in front that no position has
    if type(offset) is not int:
        offset = 0 if table.padding_idx is None else table.padding_idx + 1
    return max(1, table.num_embeddings - offset)


def _tables(model: Any) -> list[nn.Embedding]:
    """Embeddings of positions in the module that holds the embedding of tokens."""
    tokens = table_of_tokens(model)
    if tokens is None:  # no place to look
        return []
    return [
        child
        for module in model.modules()
        if any(child is tokens for child in module.children())
        for name, child in module.named_children()
        if isinstance(child, nn.Embedding) and TABLE.fullmatch(name)
    ]
