"""Prompts that ask a model to say one token, whatever the token is.

The idea is that of Land & Bartolo (2024): a model that was taught a token says it when it has just
read it twenty times over, when it is to explain it, and when it has read it fifty times in a row.
The words are our own.  The token stands in a prompt by its id, between pieces of text that are
encoded apart, so nothing asks the tokenizer for it, and a prompt has one length for all tokens.
It is plain text: no chat template is put around it, also for a model that has one.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, tensor

from wideneck.files.boundary import reading

TOKEN = None
"""In the place of the token that is asked for."""
PROMPTS: dict[str, Sequence[str | None]] = {
    "examples": [
        "Each line holds the same string in quotes.\n",
        *(20 * ['"', TOKEN, '"\n']),
        '"',
    ],
    "explain": [
        'Question: what does the string "',
        TOKEN,
        '" mean?\nAnswer: first I write the string itself, in quotes: "',
    ],
    "repeats": ["One string, again and again, and nothing else: ", *(50 * [TOKEN])],
}
"""By name, what a model reads before it is to say the token."""


def encoded(tokenizer: Any, bos: Sequence[int] = ()) -> dict[str, list[int | None]]:
    """The ids of each prompt, with `TOKEN` where the token's own goes.

    Args:
        tokenizer: of the model.
        bos: ids in front of every text.

    Raises:
        WideneckError: the tokenizer does not encode a text.
    """
    known: dict[str, list[int]] = {}

    def ids(piece: str) -> list[int]:
        if piece not in known:
            known[piece] = list(tokenizer(piece, add_special_tokens=False).input_ids)
        return known[piece]

    with reading(type(tokenizer).__name__, "a prompt", "give the model's own tokenizer"):
        return {
            name: [
                *bos,
                *(i for piece in prompt for i in ([TOKEN] if piece is None else ids(piece))),
            ]
            for name, prompt in PROMPTS.items()
        }


def filled(prompt: Sequence[int | None], tokens: Sequence[int]) -> Tensor:
    """(B, T): the prompt for each of B tokens."""
    return tensor([[token if i is TOKEN else i for i in prompt] for token in tokens])
