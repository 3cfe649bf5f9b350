"""Runs a model over windows, one at a time, with its attention watched where that is asked for.

A watcher takes the place of the model's attention function: it sees queries, keys and values of
each layer as the model makes them, forms what it needs, and gives the output; nothing of size
layers x heads x context^2 is ever kept.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from wideneck.attached.normalizer_places import implementations, restore_implementations, switch
from wideneck.attention.call import Call, as_call
from wideneck.attention.config import Normalizer, Softmax
from wideneck.attention.learned import LearnedNormalizer, take_hidden
from wideneck.audits.measured import UnmeasurableError
from wideneck.audits.output.layer import OutputLayer
from wideneck.errors import WideneckError
from wideneck.files.boundary import ours
from wideneck.functional import linear_cross_entropy
from wideneck.heads.head import Head
from wideneck.models import HeadWeights, LogitMap, ask
from wideneck.models.reading import entering_head

NAME = "wideneck_watched"

Watcher = Callable[[nn.Module, Call, Normalizer], Tensor]
"""(layer, call, normalizer with its present numbers) -> output (B, H, Q, Dv)."""


class _Watching(threading.local):
    watcher: Watcher | None = None


_watching = _Watching()


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **others: Any,
) -> tuple[Tensor, None]:
    with ours():  # the model calls this, within the boundary that `ask` draws around it
        assert _watching.watcher is not None
        try:
            call = as_call(module, query, key, value, attention_mask, **others)
        except WideneckError as error:
            raise UnmeasurableError(str(error)) from error
        normalizer: Any = getattr(module, "normalizer", None)
        config: Normalizer = Softmax()
        if isinstance(normalizer, LearnedNormalizer):
            hidden = take_hidden(module) if normalizer.hidden_size else None
            config = normalizer(None, hidden=hidden)
        out = _watching.watcher(module, call, config)
        return out.transpose(1, 2).to(query.dtype).contiguous(), None


@contextmanager
def watched(model: Any, watcher: Watcher) -> Iterator[None]:
    """Inside, the attention layers of the model call the watcher.

    Raises:
        UnmeasurableError: the model's class does not go through transformers' interface.
    """
    before, outer = implementations(model), _watching.watcher
    try:
        try:
            switch(model, NAME)
        except WideneckError as error:
            raise UnmeasurableError(str(error)) from error
        _watching.watcher = watcher
        with torch.no_grad():
            yield
    finally:
        _watching.watcher = outer
        restore_implementations(before)


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


class Reader:
    """A model, its logit map, and what a window costs it.

    Args:
        model: a causal language model in eval mode, with a linear head or one of wideneck, and
            without a memory.
        logit_map: what the model does to its logits after the head.
        head: the model's own, as it was read from its file: in the model it may lie on the disk.
    """

    def __init__(self, model: Any, logit_map: LogitMap, head: HeadWeights):
        self.model = model
        own = model.get_output_embeddings()
        self._own = own if isinstance(own, Head) else None
        self._layer = None
        if self._own is None:
            self._layer = OutputLayer.of(head, logit_map)

    def losses(self, ids: Tensor, targets: Tensor, watcher: Watcher | None = None) -> Tensor:
        """Negative log-likelihoods (B, T) of the last T positions of `ids` (B, P + T).

        Args:
            watcher: called by every attention layer; None for the model's own attention.
        """
        with (
            entering_head(self.model, last=1) as entering,  # the logits themselves are not needed
            torch.no_grad(),
            nullcontext() if watcher is None else watched(self.model, watcher),
        ):
            logits = ask(self.model, input_ids=ids, use_cache=False).logits
        hidden = entering.only()
        if self._layer is not None:  # a head of wideneck is the model's answer itself
            here = self._layer.weight.device
            last, answer = hidden[:, -1].float().to(here), logits[:, -1].to(here)
            self._layer.check(last, answer, type(self.model).__name__)
        return self._nll(hidden[:, -targets.shape[1] :], targets)

    @torch.no_grad()
    def _nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        if self._own is not None:
            return self._own.nll(hidden, targets.to(hidden.device)).cpu()
        assert self._layer is not None
        scale, bias = self._layer.logit_map.scale, self._layer.bias
        # In float32, as the head is: a model in bfloat16 has no other states, and its products
        # would be rounded once more.
        hidden = hidden.float().to(self._layer.weight.device)
        if scale != 1:
            hidden, bias = hidden * scale, None if bias is None else bias * scale
        return linear_cross_entropy(
            hidden,
            self._layer.weight,
            targets.to(hidden.device),
            linear_bias=bias,
            activation=self._layer.logit_map.activation(),
            reduction="none",
        ).cpu()
