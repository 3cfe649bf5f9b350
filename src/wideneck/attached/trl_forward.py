"""The forward that TRL puts on a model, answered by the model itself.

TRL replaces `forward` of a model that it trains by one that multiplies the hidden states by the
weight of the output layer: a softmax, whatever the layer is.  Such a function is recognized here by
where it was written and what it closes over.  It is not installed; what TRL told it is kept, and
the model's own forward answers in TRL's terms.  A function that is not known to the last variable
is installed as it came, and the guard refuses it when it reads the weight.

Read in TRL 1.7.0, 1.14.0 (the loss in chunks) and 1.15.0, 1.16.0 (per-token numbers).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import FunctionType
from typing import Any, final

import torch
from torch import Tensor

from wideneck.attached.swap import placed_memory
from wideneck.attached.token_call import REQUEST, TokenRequest
from wideneck.errors import WideneckError
from wideneck.functional.items import per_item
from wideneck.models.text_part import text_config

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

        `run` is the model's own forward; the options that are about the loss are taken out.
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
        names = tuple(dict.fromkeys(("log_probs", *self.outputs)))
        told = _told(
            model, run, options, [FIELDS[name] for name in names], self.temperature, self.sums
        )
        fields = {name: getattr(told.tokens, FIELDS[name]) for name in names}
        if told.total is not None:
            fields["log_probs"] = _spread(told.total, fields["log_probs"], told.kept)
        loss = told.loss(-fields["log_probs"].sum(), items)
        return self.result_class(
            loss=loss, label_mask=told.kept, aux_loss=told.tokens.aux_loss, **fields
        )


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
        told = _told(model, run, options, ["log_prob", "entropy", "top1"], 1.0, sums=True)
        total = -told.tokens.log_prob.sum() if told.total is None else told.total
        return self.result_class(
            loss=told.loss(total, items),
            logits=None,
            num_correct_tokens=told.tokens.top1.sum().float(),
            entropy_sum=told.tokens.entropy.detach().sum(),
            num_valid_tokens=told.kept.sum(),
            aux_loss=told.tokens.aux_loss,
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
    """What TRL asks by a function that it sets as a model's `forward`; None if it is not TRL's."""
    function: Any = getattr(forward, "__func__", forward)
    if not isinstance(function, FunctionType):
        return None
    code = function.__code__
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


@dataclass(frozen=True)
class _Told:
    """What the model says of its targets."""

    tokens: Any
    """A `TokenModelOutput`."""
    kept: Tensor
    """Which of the targets count, of the shape of the fields."""
    total: Tensor | None
    """The sum over the targets of a loss that is more than a likelihood; None for a likelihood."""
    weighted: Any
    """What a router's loss adds."""

    def loss(self, total: Tensor, num_items: Any) -> Tensor:
        """A sum over the targets, as the trainer divides it."""
        count = self.kept.sum() if num_items is None else num_items
        return per_item(total, count) + self.weighted


def _told(
    model: Any, run: Any, options: dict[str, Any], names: Any, temperature: float, sums: bool
) -> _Told:
    """Ask for these outputs of the tokens, and for the model's own loss where that is summed."""
    aligned = options.get("shift_labels")
    target = options["labels"][:, 1:] if aligned is None else aligned
    options["use_cache"] = False
    total = _own_loss(model, run, options) if sums and has_own_loss(model) else None
    with torch.set_grad_enabled(total is None and torch.is_grad_enabled()):
        tokens = run({**options, REQUEST: TokenRequest(tuple(names), temperature)})
    kept = (target != -100).to(tokens.log_prob.device)
    return _Told(tokens, kept, total, _weighted(model, tokens.aux_loss))


def has_own_loss(model: Any) -> bool:
    """Whether the model's loss is another than the likelihood of its predictions: a memory's."""
    memory = placed_memory(model)
    if memory is None:
        return False
    config = memory.config
    return bool(config.alpha or config.warmup_batches or config.loss != "trime")


def _own_loss(model: Any, run: Any, options: dict[str, Any]) -> Tensor:
    """The sum over the targets of a loss that is more than a likelihood."""
    given = {"labels": options.get("labels"), "num_items_in_batch": 1, "skip_logits": True}
    if given["labels"] is None:
        given["labels"] = options["shift_labels"]
    result = run({**options, **given, "return_dict": True})
    return result.loss - _weighted(model, getattr(result, "aux_loss", None))


def _spread(total: Tensor, log_probs: Tensor, kept: Tensor) -> Tensor:
    """Log-probabilities whose sum is -total, in its value and its gradient.

    What the total holds beside them, such as a ranking loss, is shared by all targets alike.
    """
    missing = per_item(-total - log_probs.sum(), kept.sum())
    return torch.where(kept, log_probs + missing, 0)


def _weighted(model: Any, auxiliary: Tensor | None) -> Any:
    """What a router's loss adds to the loss, as TRL weighs it."""
    if auxiliary is None:
        return 0.0
    return getattr(text_config(model.config), "router_aux_loss_coef", 0.0) * auxiliary
