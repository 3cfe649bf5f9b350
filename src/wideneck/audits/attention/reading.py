"""Runs the model over windows: what enters its head, and so its loss, one window at a time."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from wideneck.audits.attention.observing import Watcher, watched
from wideneck.audits.output.layer import OutputLayer
from wideneck.config import SoftCap, Softmax
from wideneck.functional import linear_cross_entropy
from wideneck.heads.head import Head
from wideneck.models import LogitMap, ask
from wideneck.models.reading import entering_head


class Reader:
    """A model, its logit map, and what a window costs it.

    Args:
        model: a causal language model in eval mode, with a linear head or one of wideneck, and
            without a memory.
        logit_map: what the model does to its logits after the head.
    """

    def __init__(self, model: Any, logit_map: LogitMap):
        self.model, self.logit_map = model, logit_map

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
            logits = ask(self.model, input_ids=ids.to(self.model.device), use_cache=False).logits
        hidden = entering.only()
        head = self.model.get_output_embeddings()
        if not isinstance(head, Head):  # which is the model's answer itself
            layer = OutputLayer(head.weight.float(), head.bias, self.logit_map)
            layer.check(hidden[:, -1].float(), logits[:, -1], type(self.model).__name__)
        return self._nll(hidden[:, -targets.shape[1] :], targets.to(hidden.device))

    @torch.no_grad()
    def _nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        head = self.model.get_output_embeddings()
        if isinstance(head, Head):
            return head.nll(hidden, targets).cpu()
        scale, cap = self.logit_map.scale, self.logit_map.cap
        bias = head.bias
        if scale != 1:
            hidden, bias = hidden * scale, None if bias is None else bias * scale
        return linear_cross_entropy(
            hidden,
            head.weight,
            targets,
            linear_bias=bias,
            activation=Softmax() if cap is None else SoftCap(cap=cap),
            reduction="none",
        ).cpu()
