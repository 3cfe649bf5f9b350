"""What `reset_rows` refuses: models whose rows it cannot set, and tokens it should not touch."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from wideneck.attached.guard import refuse_patched
from wideneck.attached.swap import FINAL_BIAS, is_tied
from wideneck.errors import WideneckError
from wideneck.files.printable import listed
from wideneck.heads.head import Head
from wideneck.models.causality import check_left_to_right
from wideneck.models.tokens import token_strings
from wideneck.registry import shown

NAMES = ("bos", "eos", "pad", "unk", "sep", "cls", "mask", "decoder_start", "forced_bos")
"""Tokens that a config or a tokenizer names by `..._token_id`."""


def check_model(model: Any) -> None:
    """Refuse what is no untied decoder of transformers with whole matrices in floating point.

    Cost: two forward passes of 4 sequences of 12 tokens.
    """
    name = type(model).__name__
    if not isinstance(model, PreTrainedModel) or model.get_output_embeddings() is None:
        raise WideneckError(
            "reset_rows needs a causal language model of transformers, such as "
            f"AutoModelForCausalLM gives, not wrapped or compiled, got {name}."
        )
    if model.config.is_encoder_decoder or FINAL_BIAS in model._buffers:
        raise WideneckError(
            f"reset_rows needs a model that predicts the next token; {name} has an encoder."
        )
    refuse_patched(model, "reset_rows")
    output, embedding = layers_of(model)
    for layer, kinds in ((output, (nn.Linear, Head)), (embedding, (nn.Embedding,))):
        weight = getattr(layer, "weight", None)
        if not isinstance(layer, kinds) or not _is_whole(weight):
            kind = type(weight if isinstance(layer, kinds) else layer).__name__
            raise WideneckError(
                f"reset_rows writes into whole matrices of 16 or more bits, and {name} has a "
                f"{kind} in the place of one: reset before it is sharded, quantized, offloaded or "
                "wrapped."
            )
    if is_tied(model) or output.weight.data_ptr() == embedding.weight.data_ptr():
        raise WideneckError(
            f"The embeddings of this {name} are tied, so a reset would change what the model reads "
            "as well: mask the tokens (suppress_tokens of generate), or untie them first "
            "(wideneck.attach(model, 'softmax', tie=False))."
        )
    check_left_to_right(model)  # else it would be told how probable tokens are that it has read


def layers_of(model: Any) -> tuple[Any, Any]:
    """The output layer and the input embedding."""
    return model.get_output_embeddings(), model.get_input_embeddings()


def check_ids(ids: Any, num_rows: int) -> list[int]:
    """The ids, if each is a row, and is there once, and others remain."""
    if isinstance(ids, Tensor):
        ids = ids.tolist()
    if not isinstance(ids, Sequence) or isinstance(ids, str) or not ids:
        raise WideneckError(f"reset_rows takes a list of token ids, got {shown(ids)}.")
    wrong = [i for i in ids if type(i) is not int or not 0 <= i < num_rows]
    if wrong:
        raise WideneckError(
            f"A token id is a whole number from 0 to {num_rows - 1}, got {shown(wrong[0])}."
        )
    (commonest, count), *_ = Counter(ids).most_common(1)
    if count > 1:
        raise WideneckError(f"The id {commonest} came more than once: name each token once.")
    if len(ids) == num_rows:
        raise WideneckError("Every row was to be reset, so there is none to take the mean of.")
    return list(ids)


def check_tokens(model: Any, tokenizer: Any, ids: Sequence[int], force: bool) -> list[str | None]:
    """The strings of the ids, if none is a token that a text or a chat is built with."""
    if tokenizer is None:
        raise WideneckError(
            "reset_rows needs the model's tokenizer, which knows the special tokens and reads the "
            "text that shows what changed: pass tokenizer=..."
        )
    known = token_strings(tokenizer)
    strings = [known[i] if i < len(known) else None for i in ids]
    special = _special(model, tokenizer)
    found = [
        f"{i} ({string!r}, {special[i]})"
        for i, string in zip(ids, strings, strict=True)
        if i in special
    ]
    if found and not force:
        raise WideneckError(
            f"A reset would make the model forget special tokens: {listed(found, 5)}. Leave them "
            "out, or pass force=True."
        )
    return strings


def _special(model: Any, tokenizer: Any) -> dict[int, str]:
    """By id, what a config or the tokenizer calls a token that marks something."""
    found = {i: "a special token" for i in tokenizer.all_special_ids}
    chat = str(getattr(tokenizer, "chat_template", None) or "")  # of several, all of them
    for i, token in getattr(tokenizer, "added_tokens_decoder", {}).items():
        if token.special:
            found[i] = "an added special token"
        elif token.content.strip() and token.content in chat:
            found[i] = "in the chat template"  # many a fine-tuning adds its markers as plain words
    for source in (
        model.config,
        model.config.get_text_config(),
        model.generation_config,
        tokenizer,
    ):
        found |= {i: name for name, i in _named(source)}
    return found


def _named(source: Any) -> Iterator[tuple[str, int]]:
    for name in NAMES:
        value = getattr(source, f"{name}_token_id", None)
        for i in value if isinstance(value, list | tuple) else [value]:
            if isinstance(i, int):
                yield name, i


def _is_whole(weight: Any) -> bool:
    """A matrix in floating point here, and no part, code or promise of one."""
    return (
        type(weight) in (nn.Parameter, Tensor)
        and weight.ndim == 2
        and not weight.is_meta
        and weight.is_floating_point()
        and torch.finfo(weight.dtype).bits >= 16
    )
