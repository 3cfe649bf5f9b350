"""Token outputs of a model with a memory: those of the mixture.

The mixture differs from the head's distribution at the few tokens of the memory, but its entropy
and its largest probability are of all V; so some positions at a time have all their
log-probabilities formed, and formed again in the backward pass.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers.modeling_outputs import Seq2SeqLMOutput

from wideneck.attached.memory_sources import Shown
from wideneck.attached.token_call import TokenCall
from wideneck.config import Activation
from wideneck.errors import WideneckError
from wideneck.functional.check import check_temperature
from wideneck.functional.distribution import log_mixture, log_prob, widened
from wideneck.functional.token_outputs import broadcast_temperature, outputs_of
from wideneck.memory.config import Memory
from wideneck.memory.layer import cache_in
from wideneck.memory.mixture import cache_log_probs, distinct, log_shares, masked_logsumexp, mix
from wideneck.memory.module import CacheMemory
from wideneck.memory.scores import similarities
from wideneck.models.reading import hearing

SCORES = 2**22
"""Scores of the positions that are looked at together: 16 MiB in float32, a few times."""


@final
@dataclass
class MemoryTokenCall(TokenCall):
    """Asks inside the head's call for the outputs of the mixture."""

    memory: CacheMemory | None = None
    show: Callable[[Tensor], Shown] | None = None
    """The memories, from the states that enter the head."""

    def find(self, head: Any, hidden: Tensor) -> dict[str, Tensor]:
        assert self.memory is not None
        assert self.show is not None
        if self.request.compared.learns:
            raise WideneckError(
                "token_outputs of a model with a memory has no divergence from a teacher and no "
                "cross entropy with soft targets: ask for these of the model without the memory."
            )
        names, ignore_index = self.request.outputs, self.targets.ignore_index
        shown, target = self.show(hidden), self.targets.target.to(hidden.device)
        number, tempered = broadcast_temperature(self.request.temperature, target)
        check_temperature(tempered, (target != ignore_index).view(-1))
        at = (target != ignore_index).nonzero(as_tuple=True)
        rows = self._rows(head, hidden, shown, self.memory, at)  # contexts as the loss has them
        with torch.autocast(hidden.device.type, enabled=False):
            activation, size = head.activation(), SCORES // rows.scores_of_one
            found: dict[str, list[Tensor]] = {name: [] for name in names}
            for some in torch.arange(len(at[0]), device=hidden.device).split(max(1, size)):
                T = number if tempered is None else tempered.view_as(target)[at][some][:, None]
                told = rows.told(some, activation, target[at][some], names, T)
                for name in names:
                    found[name].append(told[name])
        return {name: _placed(parts, at, target.shape, rows) for name, parts in found.items()}

    def _rows(
        self, head: Any, hidden: Tensor, shown: Shown, memory: CacheMemory, at: Any
    ) -> "_Rows":
        contexts, bias, log_prior = head.scaled_contexts(hidden)
        dtype = widened(contexts, head.weight)
        normalizer = None
        if memory.config.scores == "logits":
            anything = hidden.new_zeros(hidden.shape[:-1], dtype=torch.long)
            _, normalizer = head.nll_and_log_normalizer(hidden, anything)
            normalizer = normalizer[at]
        s, _ = memory(similarities(hidden, shown.keys))
        tokens, sequence = distinct(shown.values), at[0]
        return _Rows(
            memory.config,
            head.weight.to(dtype),
            None if bias is None else bias.to(dtype),
            contexts[at].to(dtype),
            None if log_prior is None else log_prior[at].to(dtype),
            s[at],
            shown.visible[at],
            tokens.ids[sequence],
            tokens.group[sequence],
            normalizer,
        )


@final
@dataclass(frozen=True)
class _Rows:
    """The positions that count, R of them."""

    config: Memory
    weight: Tensor
    """(V, E)."""
    bias: Tensor | None
    contexts: Tensor
    """(R, E) or (R, K, E)."""
    log_prior: Tensor | None
    """(R, K)."""
    s: Tensor
    """(R, M), likewise the next three."""
    visible: Tensor
    ids: Tensor
    group: Tensor
    log_normalizer: Tensor | None
    """(R,)."""

    @property
    def scores_of_one(self) -> int:
        K = 1 if self.log_prior is None else self.log_prior.shape[1]
        return K * len(self.weight)

    def told(
        self, some: Tensor, activation: Activation, target: Tensor, names: Any, T: Any
    ) -> dict[str, Tensor]:
        """The outputs of some positions."""

        def tell(weight: Tensor, *parts: Tensor | None) -> dict[str, Tensor]:
            log_probs = self._log_probs(weight, activation, *parts)
            return outputs_of(log_probs, target, names, T)

        every = (self.contexts, self.log_prior, self.s, self.visible, self.ids, self.group)
        parts = [None if p is None else p[some] for p in (*every, self.log_normalizer)]
        if not torch.is_grad_enabled():
            return tell(self.weight, *parts)
        return checkpoint(tell, self.weight, *parts, use_reentrant=False, preserve_rng_state=False)

    def _log_probs(self, weight: Tensor, activation: Activation, *parts: Any) -> Tensor:
        """(r, V), of the mixture."""
        contexts, log_prior, s, visible, ids, group, log_normalizer = parts
        log_probs = log_prob(F.linear(contexts, weight, self.bias), activation)
        if log_prior is not None:
            log_probs = log_mixture(log_prior, log_probs)
        s, visible = s[:, None], visible[:, None]  # each position a sequence of one query
        normalizer = None if log_normalizer is None else log_normalizer[:, None]
        cache = cache_log_probs(s, visible, group)
        shares = log_shares(self.config, masked_logsumexp(s, visible), normalizer)
        return mix(log_probs[:, None], cache, ids, shares)[:, 0]


def _placed(parts: list[Tensor], at: Any, shape: Any, rows: _Rows) -> Tensor:
    """The values of the positions that count, and 0 elsewhere."""
    if not parts:  # with a gradient, if of nothing
        return rows.contexts.sum() * 0 + rows.weight.new_zeros(shape)
    values = torch.cat(parts)
    return values.new_zeros(shape).index_put(at, values)


@contextmanager
def seen_encoder(model: Any, options: dict[str, Any]) -> Iterator[Seq2SeqLMOutput]:
    """What the model's result will hold of its encoder, while the head is still to answer."""
    result, given = Seq2SeqLMOutput(), options.get("encoder_outputs")
    if given is not None:
        result.encoder_last_hidden_state = given[0]
    runs = given is None and model.config.is_encoder_decoder

    def see(_: Any, output: Any) -> None:
        result.encoder_last_hidden_state = output[0]

    with hearing(after=[model.get_encoder()] if runs else [], seen=see):
        yield result


def check_no_cache(model: Any, options: dict[str, Any]) -> None:
    """Refuse a text whose beginning is not there."""
    if cache_in(options) is not None:
        raise WideneckError(
            f"token_outputs of a {type(model).__name__} with a memory is for whole texts: leave "
            "out the cache of an earlier call, and pass all tokens."
        )
