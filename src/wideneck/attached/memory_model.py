"""A model with a memory: its forward, from hidden states to the mixture.

The head answers what needs the output matrix (`memory_call`), the sources say what each position
remembers (`memory_sources`), and here both become one distribution and one loss.
"""

import inspect
import sys
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from wideneck.attached.head_in_model import Asked
from wideneck.attached.memory_call import MemoryCall
from wideneck.attached.memory_sources import EncoderStates, OwnHistory, Shown, token_rows
from wideneck.attached.memory_tokens import MemoryTokenCall, check_no_cache, seen_encoder
from wideneck.attached.model import ModelWithHead, original_class
from wideneck.attached.swap import placed_memory, serve_bias
from wideneck.attached.token_call import REQUEST, Targets, TokenRequest
from wideneck.attached.trl_forward import has_own_loss
from wideneck.errors import WideneckError
from wideneck.memory.config import Memory
from wideneck.memory.loss import memory_loss
from wideneck.memory.mixture import (
    cache_log_probs,
    distinct,
    log_shares,
    masked_logsumexp,
    mix,
    over_vocabulary,
)
from wideneck.memory.module import CacheMemory
from wideneck.memory.ranks import Rows
from wideneck.memory.scores import similarities


@final
class MemoryModel(ModelWithHead):
    """A model that predicts from its output layer and from what it has read.

    `logits` are the mixture's log-probabilities and `loss` is the memory's: `generate()` and the
    Trainer of transformers need nothing else.
    """

    @classmethod
    def _replaced(cls, original: type) -> dict[str, Any]:
        body = super()._replaced(original)
        signature = inspect.signature(original.forward)
        if "decoder_input_ids" in signature.parameters:
            # generate() refuses what the signature lacks, and keeps decoder_... from the encoder.
            own = inspect.Parameter(
                "decoder_memory_ids", inspect.Parameter.KEYWORD_ONLY, default=None
            )
            # In front of **kwargs, which come last.
            parameters = sorted([*signature.parameters.values(), own], key=lambda p: p.kind)
            body["forward"].__signature__ = signature.replace(parameters=parameters)
        return body

    def generate(self: Any, inputs: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As transformers; a decoder with an encoder is told the source's tokens at every step."""
        if self.config.is_encoder_decoder and "decoder_memory_ids" not in kwargs:
            source = kwargs.get("input_ids") if inputs is None else inputs
            if source is not None:
                kwargs["decoder_memory_ids"] = source
        if inputs is not None:  # which speech models call by another name
            args = (inputs, *args)
        return super().generate(*args, **kwargs)  # pyrefly: ignore[not-callable]

    def _forward(self: Any, original: Any, options: dict[str, Any]) -> Any:
        memory: Any = placed_memory(self)
        serve_bias(self, self.get_output_embeddings())
        request = options.pop(REQUEST, None)
        if request is not None:
            return self._tokens(original, options, memory, request)
        asked = Asked.taken(self, options)
        _check_kept_labels(self, asked, options)
        source = self._source(memory.config, options, asked.target)
        keep = _kept(self, options)
        call = MemoryCall(
            head=self.get_output_embeddings(),
            target=asked.target,
            ignore_index=asked.ignore_index,
            keep=keep if asked.wants_logits else None,
            wants_normalizer=memory.config.scores == "logits",
        )
        rows = None
        if asked.target is not None and memory.config.alpha:
            rows = token_rows(self.get_input_embeddings(), source.tokens())
        result = self._ask(call, original, options)
        assert call.hidden is not None
        shown = source.shown(result, call.hidden)
        loss, logits = self._read(memory, call, shown, asked, rows)
        return asked.result(self, result, loss, logits)

    def _source(
        self: Any, config: Memory, options: dict[str, Any], target: Tensor | None
    ) -> EncoderStates | OwnHistory:
        if not self.config.is_encoder_decoder:
            return OwnHistory(self, config, options, target)
        source = EncoderStates(self, options)
        _with_decoder_input(self, options, target)
        return source

    def _tokens(
        self: Any, original: Any, options: dict[str, Any], memory: Any, request: TokenRequest
    ) -> Any:
        """What was asked of the mixture's tokens, which the head answers in its own call."""
        check_no_cache(self, options)
        options["use_cache"] = False
        targets = Targets.taken(self, options)
        source = self._source(memory.config, options, targets.target)
        with seen_encoder(self, options) as seen:
            call = MemoryTokenCall(
                self.get_output_embeddings(),
                targets,
                request,
                memory=memory,
                show=lambda hidden: source.shown(seen, hidden),
            )
            result = self._ask(call, original, options)
        return call.result(result)

    def _read(
        self: Any,
        memory: CacheMemory,
        call: MemoryCall,
        shown: Shown,
        asked: Asked,
        rows: Rows | None,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Loss and logits, where they are wanted."""
        hidden, target, keep = call.hidden, call.target, call.keep
        assert hidden is not None
        if target is None:  # as when generating: the last position alone
            s, _ = memory(similarities(hidden[:, keep], shown.keys))
            visible = shown.visible[:, keep]
            return None, Mixed.kept(memory.config, call, s, visible, shown.values).logits
        s, ordered = memory(similarities(hidden, shown.keys))
        assert call.nll is not None
        terms = memory_loss(
            memory.config,
            s,
            ordered,
            shown.visible,
            shown.values,
            target,
            call.nll,
            rows,
            log_normalizer=call.log_normalizer,
            label_values=shown.label_values,
            num_items=asked.num_items,
            ignore_index=asked.ignore_index,
            warming_up=self.training and memory.warms_up(),
        )
        if keep is None:
            with torch.no_grad():
                sample = Mixed.sampled(memory.config, call, s, shown)
            assert call.sampled is not None
            looked = torch.where(call.sampled, target[call.sample], -1)[:, None]
            memory.statistics.add(True, terms, sample.right(looked), (looked >= 0).sum())
            return terms.total, None
        mixed = Mixed.kept(memory.config, call, s[:, keep], shown.visible[:, keep], shown.values)
        looked = target[:, keep]
        memory.statistics.add(self.training, terms, mixed.right(looked), (looked >= 0).sum())
        return terms.total, mixed.logits


@final
class Mixed:
    """The mixture over the vocabulary, and its two sides.

    `log_probs` (B, Q, V) are the model's; `log_normalizer` (B, Q) is for scores="logits"; `s` and
    `visible` are (B, Q, M), `values` (B, M).
    """

    def __init__(
        self,
        config: Memory,
        log_probs: Tensor,
        log_normalizer: Tensor | None,
        s: Tensor,
        visible: Tensor,
        values: Tensor,
    ):
        tokens = distinct(values)
        self.ids, self.model = tokens.ids, log_probs
        self.cache = cache_log_probs(s, visible, tokens.group)
        shares = log_shares(config, masked_logsumexp(s, visible), log_normalizer)
        self.logits = mix(log_probs, self.cache, tokens.ids, shares)

    @classmethod
    def kept(
        cls, config: Memory, call: MemoryCall, s: Tensor, visible: Tensor, values: Tensor
    ) -> "Mixed":
        """At the positions whose log-probabilities the call has kept."""
        assert call.log_probs is not None
        return cls(config, call.log_probs, call.kept_log_normalizer, s, visible, values)

    @classmethod
    def sampled(cls, config: Memory, call: MemoryCall, s: Tensor, shown: Shown) -> "Mixed":
        """At the targets that the call has sampled, each a sequence of one query."""
        assert call.sample_log_probs is not None
        row, at = call.sample
        normalizer = None if call.log_normalizer is None else call.log_normalizer[row, at][:, None]
        visible = shown.visible[row, at][:, None]
        log_probs = call.sample_log_probs[:, None]
        values = shown.values[row]
        return cls(config, log_probs, normalizer, s[row, at][:, None], visible, values)

    def right(self, target: Tensor) -> dict[str, Tensor]:
        """How often each side puts the target (B, Q) first, of targets that are tokens.

        An empty memory is wrong.
        """
        kept = target >= 0
        cache = torch.zeros_like(kept)
        if self.cache.shape[-1]:
            best, at = self.cache.max(-1)
            first = self.ids[:, None].expand_as(self.cache).gather(-1, at[..., None])[..., 0]
            cache = (first == target) & (best > -torch.inf)
        return {
            "": ((self.logits.argmax(-1) == target) & kept).sum(),
            "_model_only": ((self.model.argmax(-1) == target) & kept).sum(),
            "_cache_only": (cache & kept).sum(),
        }


def _kept(model: Any, options: dict[str, Any]) -> Any:
    """The positions whose logits are wanted; the memory itself needs every one."""
    keep = options.pop("logits_to_keep", 0)
    if "logits_to_keep" in inspect.signature(type(model).forward).parameters:
        options["logits_to_keep"] = 0
    if not isinstance(keep, int):
        return keep
    return slice(-keep, None) if keep else slice(None)


def _check_kept_labels(model: Any, asked: Asked, options: dict[str, Any]) -> None:
    """Refuse a loss that the Trainer forms of the logits where the model's own is another.

    With `label_smoothing_factor` or a `compute_loss_func` the Trainer keeps the labels, and tells
    the model their number alone.
    """
    if asked.target is not None or asked.num_items is None:
        return
    name, kept = (
        type(model).__name__,
        "label_smoothing_factor and compute_loss_func keep the labels",
    )
    if model.training and has_own_loss(model):
        raise WideneckError(
            f"{kept} from this {name}, and with them the ranking loss, the warm-up or the "
            "cross-entropy of its memory: leave them out, or attach the memory with alpha=0."
        )
    if model.config.is_encoder_decoder and not _has_decoder_input(options):
        raise WideneckError(
            f"{kept} from this {name}, whose decoder then has no input: have the collator make it "
            "of the labels, as DataCollatorForSeq2Seq(tokenizer, model=model) does."
        )


def _has_decoder_input(options: dict[str, Any]) -> bool:
    given = ("decoder_input_ids", "decoder_inputs_embeds")
    return any(options.get(name) is not None for name in given)


def _with_decoder_input(model: Any, options: dict[str, Any], labels: Tensor | None) -> None:
    """The labels, moved right by one, where the caller leaves the decoder's input to the model."""
    if labels is None or _has_decoder_input(options):
        return
    prepare = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if prepare is not None:
        try:
            options["decoder_input_ids"] = prepare(labels)
        except RuntimeError as error:  # mBART begins with a row's last label
            raise WideneckError(
                f"{type(model).__name__} makes no decoder's input of these labels ({error}), as "
                "where a row has no target: pass decoder_input_ids, too."
            ) from error
        return
    shift = getattr(sys.modules[type(model).__module__], "shift_tokens_right", None)
    if shift is None:
        raise WideneckError(
            f"{type(model).__name__} does not say how labels become the decoder's input: pass "
            "decoder_input_ids, too."
        )
    ids = model.config.pad_token_id, model.config.decoder_start_token_id
    options["decoder_input_ids"] = shift(labels, *ids)


@dataclass(frozen=True)
class Views:
    """A prediction seen in three ways: natural logarithms over the vocabulary, (B, Q, V) each."""

    full: Tensor
    """The mixture's, which the model's `logits` are."""
    model: Tensor
    """Those of the output layer alone."""
    cache: Tensor
    """Those of the memory alone; -inf for what it does not hold, everywhere where it is empty."""
    memory_share: Tensor
    """(B, Q), the part of the mixture's probability that comes from the memory."""


@torch.no_grad()
def three_ways(
    model: Any, input_ids: Tensor, attention_mask: Tensor | None = None, *, keep: Any = slice(None)
) -> Views:
    """Run a causal language model with a memory once, and give each part of its prediction.

    Args:
        model: of `wideneck.attach_memory`, in the mode that is wanted (`model.eval()`).
        input_ids: (B, T).
        attention_mask: (B, T), 0 for padding; None for none.
        keep: index of the Q positions that are looked at, such as slice(-1, None) for the last.

    Cost: the model's forward, and 3 B Q V numbers.
    """
    if not isinstance(model, MemoryModel) or model.config.is_encoder_decoder:
        raise WideneckError(
            f"three_ways is for a causal language model with a memory, got "
            f"{type(model).__name__}: call wideneck.attach_memory(model) first."
        )
    memory: Any = placed_memory(model)
    head: Any = model.get_output_embeddings()
    options: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
    source = OwnHistory(model, memory.config, options, None)
    wants_normalizer = memory.config.scores == "logits"
    call = MemoryCall(head, None, -100, keep, wants_normalizer)
    result = model._ask(call, original_class(type(model)).forward, {**options, "use_cache": False})
    assert call.hidden is not None
    assert call.log_probs is not None
    shown = source.shown(result, call.hidden)
    s, _ = memory(similarities(call.hidden[:, keep], shown.keys))
    visible = shown.visible[:, keep]
    mixed = Mixed.kept(memory.config, call, s, visible, shown.values)
    log_all = masked_logsumexp(s, visible)
    _, share = log_shares(memory.config, log_all, call.kept_log_normalizer)
    cache = over_vocabulary(mixed.cache, mixed.ids, call.log_probs.shape[-1])
    return Views(mixed.logits, mixed.model, cache, share.exp())
