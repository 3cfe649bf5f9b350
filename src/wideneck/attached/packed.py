"""Packed documents: several in one row, which attention keeps apart, and so must a memory.

transformers reads the borders from `position_ids` when it makes the mask of its attention, and it
looks only where there is neither an attention mask nor a cache.  The memory takes the very numbers
that attention has been given; where attention would not look, documents that were meant to be
apart are refused.
"""

import functools
import threading
from typing import Any, final

import torch
from torch import Tensor
from transformers import masking_utils

from wideneck.errors import WideneckError
from wideneck.memory.config import Memory
from wideneck.models.text_part import text_config

OTHER_BORDERS = ("cu_seq_lens_q", "seq_idx")
"""Borders that only some kernels read; attention in PyTorch is told by position_ids alone."""


class _Told(threading.local):
    """The documents that attention has been told of last, in this thread."""

    def __init__(self):
        self.documents: Tensor | None = None  # one's own from the start: a graph looks for it


_told = _Told()


def _note_what_attention_is_told() -> None:
    """Only transformers knows which of its models look for documents, and when."""
    find = getattr(masking_utils, "find_packed_sequence_indices", None)
    if find is None:
        return  # nothing is noted then, and packed documents are refused

    @functools.wraps(find)
    def noting(*args: Any, **kwargs: Any) -> Tensor | None:
        _told.documents = find(*args, **kwargs)
        return _told.documents

    masking_utils.find_packed_sequence_indices = noting


_note_what_attention_is_told()


@final
class Packing:
    """What one forward of a decoder says of documents in its rows.

    The option `use_cache` is turned off where documents are packed and nobody asked for a cache,
    as attention would not keep them apart while it fills one.  `valid` (B, T) is False for
    padding.
    """

    def __init__(
        self,
        model: Any,
        config: Memory,
        options: dict[str, Any],
        ids: Tensor,
        valid: Tensor,
        cache: Any,
    ):
        self.name = type(model).__name__
        self.shape = ids.shape
        _told.documents = None
        self.is_packed = False
        self.flash = "flash" in str(text_config(model.config)._attn_implementation)
        if ids.shape[1] < 2 or torch.compiler.is_compiling():
            return
        restart = _restarts(options.get("position_ids"), valid)
        for name in OTHER_BORDERS:
            self._agree(name, options.get(name), restart)
        if restart is None or not bool(restart.any()):
            return
        self.is_packed = True
        if options.get("attention_mask") is not None:
            self._refuse("looks for documents only without an attention_mask: leave it out")
        if cache is not None or options.get("use_cache"):
            self._refuse("looks for documents only without a cache: pass use_cache=False")
        if self.flash:
            first = (options["position_ids"] == 0) & restart
            if ids.shape[0] > 1 or not torch.equal(first, restart):
                self._refuse("with flash attention keeps them apart in one row, counted from 0")
        if config.rank_over == "all":
            raise WideneckError(
                f"rank_over='all' ranks the memories of all documents in a row of {self.name} "
                "together: use rank_over='visible', or give each document a row."
            )
        options["use_cache"] = False

    def documents(self) -> Tensor | None:
        """After the pass: (B, T), each token's document by number; None for one in each row."""
        told, _told.documents = _told.documents, None
        if self.flash and not self.is_packed:
            return None  # there only a position of 0 begins a document
        if told is not None and told.shape[-1] == self.shape[1]:
            return told.expand(self.shape)
        if self.is_packed:
            self._refuse("does not look for documents: give each a row")
        return None

    def _agree(self, name: str, given: Any, restart: Tensor | None) -> None:
        if given is None:
            return
        border = torch.zeros(self.shape, dtype=torch.bool, device=given.device)
        if name == "seq_idx":
            border[:, 1:] = given.diff(dim=-1) != 0
        else:
            border.view(-1)[given[1:-1].long()] = True
            border[:, 0] = False
        same = restart is not None and torch.equal(border, restart.to(border.device))
        if not same and (restart is not None or border.any()):
            raise WideneckError(
                f"The {name} given to {self.name} is not where its position_ids begin anew: give "
                "position_ids that count each document from 0, by which attention and memory keep "
                "to it."
            )

    def _refuse(self, why: str) -> None:
        raise WideneckError(
            f"position_ids begin anew inside a row, for packed documents, and the attention of "
            f"{self.name} {why}, so that its memory can keep to a document as attention does."
        )


def refuse_packed(options: dict[str, Any], name: str) -> None:
    """Refuse packed rows where an encoder reads: the memory is the whole source of a row."""
    for given in ("position_ids", *OTHER_BORDERS):
        if options.get(given) is not None:
            raise WideneckError(
                f"The memory of {name} holds the whole source of a row and knows no {given}: give "
                "each document a row."
            )


def _restarts(positions: Any, valid: Tensor) -> Tensor | None:
    """(B, T), True where a real token after a real one does not stand behind it."""
    if not isinstance(positions, Tensor) or positions.ndim != 2:
        return None
    if positions.shape[-1] != valid.shape[1]:
        return None
    restart = torch.zeros_like(valid)
    step = positions.diff(dim=-1).to(valid.device)
    restart[:, 1:] = (step <= 0) & valid[:, 1:] & valid[:, :-1]
    return restart
