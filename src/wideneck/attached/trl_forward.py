"""The forward that TRL puts on a model, answered by the model itself.

TRL replaces `forward` of a model that it trains by one that multiplies the hidden states by the
weight of the output layer: a softmax, whatever the layer is.  Such a function is recognized here by
where it was written and what it closes over.  It is not installed; what TRL told it is kept, and
the model's own forward answers in TRL's terms.  A function that is not known to the last variable is
installed as it came, and the guard refuses it when it reads the weight.

Read in TRL 1.7.0, 1.14.0 (the loss in chunks) and 1.15.0, 1.16.0 (per-token numbers).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from wideneck.attached.head_in_model import shifted
from wideneck.attached.memory_place import placed_memory
from wideneck.attached.trl_tokens import tokens_of
from wideneck.errors import WideneckError

FIELDS = {
    "log_probs": "log_prob",
    "entropy": "entropy",
    "log_sum_sq_probs": "log_sum_sq_prob",
    "mean_logits": "mean_log_prob",
    "is_top1": "top1",
}
"""TRL's names of per-token numbers, and those of `TokenOutputs`."""

_CONFIGURED = {"final_logit_softcapping", "logit_scale", "original_forward", "text_config"}
"""What both functions close over and a head has by itself: it scales and caps."""
_FUSED = _CONFIGURED | {"backbone_attr", "cast_lm_head_to_fp32", "outputs", "temperature"}
_CHUNKED = _CONFIGURED | {"chunk_size", "is_vlm", "lm_head"}


class TrlForward(ABC):
    """What TRL has asked of a model's forward."""

    @abstractmethod
    def takes(self, options: dict[str, Any]) -> bool:
        """Whether a call with these options is TRL's own and not the model's."""

    @abstractmethod
    def answer(self, model: Any, run: Any, options: dict[str, Any]) -> Any:
        """What TRL's function would have returned, with the model's own distribution.

        Args:
            model: the model.
            run: its own forward, of a dictionary of options.
            options: of the call; those of the loss are taken out.
        """


@final
@dataclass(frozen=True)
class FusedHead(TrlForward):
    """`add_fused_lm_head` of TRL 1.15: per-token numbers for `fused_lm_head=True`."""

    result_class: type
    """TRL's `FusedCausalLMOutput`."""
    temperature: float
    outputs: tuple[str, ...]
    """Its fields beside `log_probs`, which it always holds."""
    sums: bool = False
    """Whether the trainer makes its loss of the sum of `log_probs`, as SFT does."""

    def takes(self, options: dict[str, Any]) -> bool:
        return bool(options.pop("fused_lm_head", False))

    def answer(self, model: Any, run: Any, options: dict[str, Any]) -> Any:
        items = options.pop("num_items_in_batch", None)
        names = ("log_probs", *(name for name in self.outputs if name != "log_probs"))
        wanted = tuple(FIELDS[name] for name in names)
        target, aligned = _target(options)
        own = _own_loss(model, run, options, target) if self.sums else None
        with torch.set_grad_enabled(own is None and torch.is_grad_enabled()):
            tokens, result = tokens_of(run, options, target, wanted, self.temperature)
        kept = target != -100
        fields = {name: getattr(tokens, FIELDS[name]) for name in names}
        if own is not None:
            fields["log_probs"] = _spread(own, fields["log_probs"], kept)
        fields["label_mask"] = kept
        if not aligned:  # the last position predicts nothing
            fields = {name: value[:, :-1] for name, value in fields.items()}
        loss = -fields["log_probs"].sum() / _items(items, kept)
        auxiliary, weighted = _auxiliary(model, result)
        return self.result_class(loss=loss + weighted, aux_loss=auxiliary, **fields)


@final
@dataclass(frozen=True)
class ChunkedLoss(TrlForward):
    """`loss_type="chunked_nll"` of TRL's SFT from 1.7 to 1.14: a loss and three sums for labels."""

    result_class: type
    """TRL's `_ChunkedCELMHeadOutput`."""

    def takes(self, options: dict[str, Any]) -> bool:
        given = ("labels", "shift_labels")
        return any(options.get(name) is not None for name in given)

    def answer(self, model: Any, run: Any, options: dict[str, Any]) -> Any:
        items = options.pop("num_items_in_batch", None)
        target, _ = _target(options)
        wanted = ("log_prob", "entropy", "top1")
        own = _own_loss(model, run, options, target)
        with torch.set_grad_enabled(own is None and torch.is_grad_enabled()):
            tokens, result = tokens_of(run, options, target, wanted, 1.0)
        kept = target != -100
        auxiliary, weighted = _auxiliary(model, result)
        total = -tokens.log_prob.sum() if own is None else own
        return self.result_class(
            loss=total / _items(items, kept) + weighted,
            logits=None,
            hidden_states=getattr(result, "hidden_states", None),
            past_key_values=None,
            attentions=None,
            num_correct_tokens=tokens.top1.sum().float(),
            entropy_sum=tokens.entropy.detach().sum(),
            num_valid_tokens=kept.sum(),
            aux_loss=auxiliary,
        )


@final
@dataclass(frozen=True)
class WithLogits(TrlForward):
    """`loss_type="nll"` of TRL's SFT to 1.14: logits beside the loss, for its metrics."""

    def takes(self, options: dict[str, Any]) -> bool:
        options.setdefault("wants_logits", True)
        return False

    def answer(self, model: Any, run: Any, options: dict[str, Any]) -> Any:
        return run(options)


def recognized(forward: Any) -> TrlForward | None:
    """What TRL asks by a function that it sets as a model's `forward`; None if it is not TRL's.

    Raises:
        WideneckError: a way of TRL that no head can answer.
    """
    function = getattr(forward, "__func__", forward)
    code = getattr(function, "__code__", None)
    if code is None:
        return None
    # TRL's function borrows name and module of the model's own, so only its code tells.
    home = function.__globals__.get("__name__")
    held = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
    where = (home, code.co_name)
    if where == ("trl.trainer.utils", "_fused_forward") and held.keys() == _FUSED:
        return _fused(function, held)
    if where == ("trl.trainer.sft_trainer", "_chunked_ce_forward") and held.keys() == _CHUNKED:
        return ChunkedLoss(function.__globals__["_ChunkedCELMHeadOutput"])
    if where == ("trl.models.utils", "wrapped_forward"):
        method = held["method"].cell_contents
        raise WideneckError(
            f"{method.__qualname__} of {method.__module__} multiplies hidden states by the weight "
            "of the output layer, which leaves out this model's head: use a trainer that is listed "
            "in docs/trainers.md, without Liger."
        )
    return None


def _fused(function: Any, held: dict[str, Any]) -> FusedHead | None:
    temperature, outputs, cast = (
        held[name].cell_contents for name in ("temperature", "outputs", "cast_lm_head_to_fp32")
    )
    if not isinstance(temperature, int | float) or not isinstance(outputs, tuple):
        return None
    if not set(outputs) <= FIELDS.keys():
        return None
    if cast:
        raise WideneckError(NO_CAST)
    return FusedHead(function.__globals__["FusedCausalLMOutput"], float(temperature), outputs)


NO_CAST = (
    "TRL's cast_lm_head_to_fp32 replaces the forward of the output layer by a linear one, which "
    "leaves out this model's head: leave it False, as a head of wideneck takes its sums in float32 "
    "or better by itself."
)


def _target(options: dict[str, Any]) -> tuple[Tensor, bool]:
    """(B, T), what each position predicts, and whether the caller has aligned it."""
    labels, target = options.pop("labels", None), options.pop("shift_labels", None)
    if target is not None:
        return target, True
    assert labels is not None
    return shifted(labels, -100), False


def _items(num_items: Any, kept: Tensor) -> Any:
    """What a sum over the targets is divided by; never 0, as no targets are no loss, not NaN."""
    if num_items is None:
        return kept.sum().clamp(min=1)
    if isinstance(num_items, Tensor):
        return num_items.to(kept.device).clamp(min=1)
    return max(1, num_items)


def has_own_loss(model: Any) -> bool:
    """Whether the model's loss is another than the likelihood of its predictions: a memory's."""
    memory = placed_memory(model)
    if memory is None:
        return False
    config = memory.config
    return bool(config.alpha or config.warmup_batches or config.loss != "trime")


def _own_loss(model: Any, run: Any, options: dict[str, Any], target: Tensor) -> Tensor | None:
    """The sum over the targets of a loss that is more than a likelihood; None for a likelihood."""
    if not has_own_loss(model):
        return None
    result = run(
        {**options, "labels": target, "shift_labels": target, "num_items_in_batch": 1}
        | {"use_cache": False, "return_dict": True}
    )
    return result.loss - _auxiliary(model, result)[1]


def _spread(total: Tensor, log_probs: Tensor, kept: Tensor) -> Tensor:
    """Log-probabilities whose sum is -total, in its value and its gradient.

    What the total holds beside them, such as a ranking loss, is shared by all targets alike.
    """
    missing = (-total - log_probs.sum()) / kept.sum().clamp(min=1)
    return torch.where(kept, log_probs + missing, 0)


def _auxiliary(model: Any, result: Any) -> tuple[Tensor | None, Any]:
    """The loss of a router, where the model gave one, and what it adds to the loss."""
    loss = getattr(result, "aux_loss", None)
    if loss is None:
        return None, 0.0
    return loss, getattr(model.config.get_text_config(), "router_aux_loss_coef", 0.0) * loss
