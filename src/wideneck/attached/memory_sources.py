"""Where a model's memories come from: its own history, or the source that its encoder has read."""

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from wideneck.attached.guard import unanswered
from wideneck.attached.packed import Packing, refuse_packed
from wideneck.attached.swap import attached_head
from wideneck.errors import WideneckError
from wideneck.memory.config import Memory
from wideneck.memory.layer import History, cache_in, check_cache, memory_layer, remembered
from wideneck.memory.ranks import Rows
from wideneck.memory.scores import documents, visible_history
from wideneck.models import evaluating
from wideneck.models.text_part import placeholders


@dataclass(frozen=True)
class Shown:
    """The memories of a forward pass."""

    keys: Tensor
    """(B, M, D)."""
    values: Tensor
    """(B, M)."""
    visible: Tensor
    """(B, Q, M)."""
    label_values: Tensor | None
    """(B, M), where the memories stand among labels."""


@final
class OwnHistory:
    """A decoder remembers (h_j, x_{j+1}) for j before the position, kept in the cache.

    Neither token is one that keeps room for an image or a sound, which is never to be predicted.

    Takes what it needs of the options of a forward before the model runs.
    """

    def __init__(self, model: Any, config: Memory, options: dict[str, Any], labels: Tensor | None):
        self.config, self.labels = config, labels
        self.name = type(model).__name__
        ids = options.get("input_ids")
        if ids is None:
            raise WideneckError(
                f"The memory of {self.name} holds the tokens of the text, so it needs input_ids; "
                "inputs_embeds alone do not say which tokens they are."
            )
        self.ids = checked_ids(ids, model)
        self.num_before = 0
        cache = cache_in(options)
        if cache is not None:
            check_cache(cache, self.name)
            # A number of its own: a cropped layer that slides may count in a tensor, in place.
            self.num_before = int(cache.get_seq_length())
        self.valid = real(options.get("attention_mask"), self.ids, self.name)
        self.packing = Packing(model, config, options, self.ids, self.valid, cache)
        self.valid = self.valid & ~_kept_for_towers(self.ids, model)
        self.before = None if cache is None else memory_layer(cache)

    def tokens(self) -> Tensor:
        """(B, T), every token that stands in a memory, before the model runs."""
        if self.before is None:
            return self.ids
        before = self.before.token_ids()
        return torch.cat([before, self.ids.to(before.device)], dim=1)

    def shown(self, result: Any, hidden: Tensor) -> Shown:
        """The memories, with those that the cache in `result` brings."""
        place = hidden.device
        history = History(hidden, self.ids.to(place), self.valid.to(place))
        cache = cache_in(result)
        if cache is not None:
            check_cache(cache, self.name)
            history = remembered(cache, history, self.num_before, self.name)
        document = self.packing.documents()
        if self.config.separator is not None:
            parts = documents(history.ids, self.config.separator)
            # Both only count up, so the sum is another number as soon as one of them is.
            document = parts if document is None else parts + document
        visible = visible_history(
            history.valid, hidden.shape[1], window=self.config.window, document=document
        )
        labels = self.labels
        if labels is not None and labels.shape[1] == history.ids.shape[1]:
            labels = labels[:, :-1]  # shifted: the label at j is that of the token at j + 1
        return Shown(history.states[:, :-1], history.ids[:, 1:], visible, labels)


@final
class EncoderStates:
    """An encoder-decoder remembers (E_j, x_j) for every source token; each position sees all."""

    def __init__(self, model: Any, options: dict[str, Any]):
        name = type(model).__name__
        given = options.pop("decoder_memory_ids", None)
        ids = options.get("input_ids") if given is None else given
        if ids is None:
            raise WideneckError(
                f"The memory of {name} holds the tokens of the source: pass them as input_ids, or "
                "with encoder_outputs as decoder_memory_ids."
            )
        refuse_packed(options, name)
        self.ids = checked_ids(ids, model)
        self.valid = real(options.get("attention_mask"), self.ids, name)
        self.valid = self.valid & ~_kept_for_towers(self.ids, model)

    def tokens(self) -> Tensor:
        """(B, M), those of the source."""
        return self.ids

    def shown(self, result: Any, hidden: Tensor) -> Shown:
        """The memories, with the encoder's states that `result` holds."""
        keys, place = result.encoder_last_hidden_state, hidden.device
        if keys.shape[:2] != self.ids.shape:
            raise WideneckError(
                f"The source tokens have shape {tuple(self.ids.shape)} and the encoder's states "
                f"{tuple(keys.shape)}: there must be one state per token."
            )
        visible = self.valid.to(place)[:, None].expand(-1, hidden.shape[1], -1)
        return Shown(keys.to(place), self.ids.to(place), visible, None)


@torch.no_grad()
def token_rows(embedding: Any, ids: Tensor) -> Rows:
    """The vectors that an embedding gives for the tokens `ids` of a batch, by a call of its own.

    FSDP2, ZeRO-3 and the offloading of accelerate put a module's weights in place for its own call
    only; read from outside they are a shard, empty, or whatever was left there.

    A factor that the embedding multiplies by, as Gemma's and BART's do, is in the rows: cosines
    do not see it.  Noise that is added to embeddings in training (NEFTune) is not.

    To be called before the model runs: FSDP2 counts, in a group of modules, which have run.
    """
    if torch.compiler.is_compiling():
        # A graph has no room for a number of rows that depends on the tokens.
        ids = ids.flatten().sort()[0]
        return Rows(ids, embedding(ids))
    ids = ids.unique()
    with evaluating(embedding):
        return Rows(ids, embedding(ids))


def _kept_for_towers(ids: Tensor, model: Any) -> Tensor:
    """(B, T), True for tokens in whose places the model puts what its towers give."""
    found = torch.zeros_like(ids, dtype=torch.bool)
    for placeholder in placeholders(model.config):
        found = found | (ids == placeholder)
    return found


def real(mask: Any, ids: Tensor, name: str) -> Tensor:
    """(B, T), True for the tokens of `ids` that are no padding, as the attention mask says.

    Not by the id of padding: many models pad with the end of the text.
    """
    if mask is None:
        return torch.ones_like(ids, dtype=torch.bool)
    if not isinstance(mask, Tensor) or mask.ndim != 2 or mask.shape[1] < ids.shape[1]:
        came = f"shape {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        raise WideneckError(
            f"The memory of {name} tells padding by an attention_mask of shape (batch, tokens), at "
            f"least {tuple(ids.shape)}, and packed documents by position_ids alone; got {came}."
        )
    return mask[:, mask.shape[1] - ids.shape[1] :].bool()


def checked_ids(ids: Tensor, model: Any) -> Tensor:
    """Token ids of the vocabulary; a single new one comes from the model itself."""
    head = attached_head(model)
    if head is None:
        raise unanswered(model)
    vocab_size = head.vocab_size  # of a released weight nothing is read
    if torch.compiler.is_compiling():
        return ids  # a graph does not look at numbers; the embedding has no rows beyond them
    if ids.shape[-1] > 1 and ids.numel():
        low, high = (int(x) for x in ids.aminmax())
        if low < 0 or high >= vocab_size:
            raise WideneckError(
                f"Token ids must lie in [0, {vocab_size}), the vocabulary of "
                f"{type(model).__name__}; got {low if low < 0 else high}: use the model's own "
                "tokenizer."
            )
    return ids
