"""A head in the place of a model's output layer, where it also computes the loss.

The model calls its output layer deep inside its forward; that call is the only place where
FSDP2 has gathered the layer's weights.  So the labels are left for the head to find, and it
leaves the loss: a `Call`, one for each forward of the model.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wideneck.attached.guard import check_reader, head_is_called
from wideneck.attached.low_rank_start import LowRankStart
from wideneck.errors import WideneckError
from wideneck.functional.items import per_item
from wideneck.heads.head import Head
from wideneck.models.text_part import text_config


@dataclass(frozen=True)
class Asked:
    """The options of a forward that are about its loss and the form of its result."""

    target: Tensor | None
    """Ids (B, T), already shifted where the model predicts its own next token; None: no loss."""
    num_items: Any
    """What the sum of losses is divided by; None for the number of targets."""
    ignore_index: int
    return_dict: bool
    wants_logits: bool

    @classmethod
    def taken(cls, model: Any, options: dict[str, Any]) -> "Asked":
        """Take them out of the options."""
        labels, target = options.pop("labels", None), options.pop("shift_labels", None)
        ignore_index = options.pop("ignore_index", -100)
        return_dict = options.pop("return_dict", None)
        wants_logits, skip_logits = (options.pop(f"{x}_logits", None) for x in ("wants", "skip"))
        if labels is not None and target is None:
            whole = model.config.is_encoder_decoder
            target = labels if whole else shifted(labels, ignore_index)
        if labels is None:
            target = None
        if wants_logits is None:  # Liger's and the Trainer's word for it
            wants_logits = not (model.training if skip_logits is None else skip_logits)
        return cls(
            target=target,
            num_items=options.pop("num_items_in_batch", None),
            ignore_index=ignore_index,
            return_dict=model.config.return_dict if return_dict is None else return_dict,
            wants_logits=target is None or wants_logits,
        )

    def result(self, model: Any, original: Any, loss: Tensor | None, logits: Any) -> Any:
        """What the original returned, with our loss and logits in the place of its own."""
        auxiliary = getattr(original, "aux_loss", None)
        if loss is not None and auxiliary is not None:
            loss = loss + _auxiliary_weight(model) * auxiliary.to(loss.device)
        if logits is not None and logits.requires_grad:
            # A linear layer's logits are the caller's to change in place, as TRL 1.7 divides them
            # by a temperature; what makes log-probabilities needs its own for their gradient.
            logits = logits.clone()
        # What the original does to its logits after the head (a scale, a cap) is in the head.
        result = replace(original, loss=loss, logits=logits)
        return result if self.return_dict else result.to_tuple()


@final
class Beside:
    """Tensors that a module leaves beside its output: left inside its call, taken after it.

    FSDP2 and ZeRO-3 put a module's weights in place again when the gradient of its output comes.  A
    loss that is left on a call is no output, so its backward pass would find the weights released.
    Here the gradients of what was left take the way through the output.
    """

    def __init__(self):
        self.left = False
        self.gradients: tuple[Tensor | None, ...] = ()

    def leave(self, output: Tensor, tensors: list[Tensor]) -> Tensor:
        """The module's output, from which `take` finds the way to the tensors."""
        if not any(tensor.requires_grad for tensor in tensors) or _transformed():
            return output
        self.left = True
        return _Leave.apply(self, output, *tensors)

    def take(self, output: Any, tensors: list[Tensor]) -> list[Tensor]:
        """The tensors that were left, as functions of the output or of what was made of it."""
        if not self.left or not isinstance(output, Tensor) or not output.requires_grad:
            return tensors
        return list(_Take.apply(self, output, *(tensor.detach() for tensor in tensors)))


def _transformed() -> bool:
    """A graph is traced, or a gradient is asked for as a function: no hooks of modules there."""
    functional = torch._C._are_functorch_transforms_active()
    return not torch.is_grad_enabled() or functional or torch.compiler.is_compiling()


class _Leave(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, beside: Beside, output: Tensor, *tensors: Tensor):  # pyrefly: ignore[bad-override]
        """The output as it is."""
        ctx.beside, ctx.count = beside, len(tensors)
        ctx.set_materialize_grads(False)
        return output.detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None):  # pyrefly: ignore[bad-override]
        """The gradients that have come to the tensors."""
        gradients, ctx.beside.gradients = ctx.beside.gradients, ()
        return (None, gradient, *(gradients or (None,) * ctx.count))  # or of the output alone


class _Take(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, beside: Beside, output: Tensor, *tensors: Tensor):  # pyrefly: ignore[bad-override]
        """The tensors as they are."""
        ctx.beside = beside
        ctx.like = output.shape, output.dtype, output.device
        ctx.set_materialize_grads(False)
        return tuple(tensor.detach() for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None):  # pyrefly: ignore[bad-override]
        """Leaves them for the module, and calls it by a gradient of its output, 0."""
        ctx.beside.gradients = gradients
        shape, dtype, device = ctx.like
        nothing = torch.zeros((), dtype=dtype, device=device).expand(shape)
        return (None, nothing, *(None for _ in gradients))


class Call(ABC):
    """What one forward of a model asks of its head, and what the head answers."""

    head: nn.Module
    """Whose call it is: a head leaves the calls of others alone.  Or what wraps that head."""
    answered: bool = False

    def is_for(self, head: nn.Module) -> bool:
        """Whether it asks this head, which PEFT or FSDP may have wrapped."""
        return self.head is head or any(module is head for module in self.head.modules())

    LEFT: ClassVar[tuple[str, ...]] = ()
    """What comes of the head's weights, and so goes back to them in the backward pass."""
    _beside: Beside | None = None

    @abstractmethod
    def answer(self, head: Any, hidden: Tensor) -> Tensor:
        """What stands in the place of the logits; everything else is left on the call."""

    def leave(self, output: Tensor) -> Tensor:
        """The end of an answer: its output, on which hangs what is left on the call."""
        self._beside = Beside()
        return self._beside.leave(output, [getattr(self, name) for name in self._named()])

    def collect(self, output: Any) -> None:
        """After the model's forward: what was left, as functions of the head's output.

        That is the logits of the model's result, whatever it has made of the head's.
        """
        if self._beside is None:
            return
        names = self._named()
        taken = self._beside.take(output, [getattr(self, name) for name in names])
        for name, tensor in zip(names, taken, strict=True):
            setattr(self, name, tensor)

    def _named(self) -> list[str]:
        return [name for name in self.LEFT if getattr(self, name, None) is not None]


@final
@dataclass
class HeadCall(Call):
    """Asks for the loss, the log-probabilities or both."""

    LEFT = ("loss",)
    head: nn.Module
    asked: Asked
    loss: Tensor | None = None
    log_probs: Tensor | None = None

    def answer(self, head: Any, hidden: Tensor) -> Tensor:
        """Log-probabilities (..., V), or (0, ..., V) where only a loss is asked for."""
        asked = self.asked
        if asked.target is not None:  # the mean or a sum over items, as transformers defines it
            by_items = asked.num_items is not None
            self.loss = head.nll(
                hidden,
                asked.target.to(hidden.device),
                reduction="sum" if by_items else "mean",
                ignore_index=asked.ignore_index,
            )
            if by_items:
                self.loss = per_item(self.loss, asked.num_items)
        if not asked.wants_logits:
            return self.leave(without_logits(head, hidden))
        self.log_probs = self.leave(head.log_probs(hidden))
        return self.log_probs


class _Current(threading.local):
    """A server may run one model in many threads, so each has a call of its own."""

    def __init__(self):
        self.call: Call | None = None  # one's own from the start: a graph looks for it


_current = _Current()


@contextmanager
def answering(call: Call) -> Iterator[None]:
    """Inside, the head of the call answers it."""
    before = _current.call
    _current.call = call
    try:
        yield
    finally:
        _current.call = before


class HeadInModel(nn.Module):
    """Mixed into a head's class, in front of it."""

    remembers = False
    """Whether the model predicts from a memory, too, so that the head alone is not its answer."""
    start: LowRankStart | None = None
    """Of a low_rank, what it lost when it was attached."""

    def forward(self: Any, hidden: Tensor) -> Tensor:
        """Log-probabilities (..., V), or whatever the call of the model has it answer."""
        head_is_called()
        call = _current.call
        if call is not None and call.is_for(self):
            call.answered = True
            return call.answer(self, hidden)
        if self.remembers:
            raise WideneckError(
                "The output layer of a model with a memory is called outside of the model's own "
                "forward, which would leave the memory out: call the model itself, or take what "
                "is needed per token from model.token_outputs."
            )
        return self.log_probs(hidden)

    def __getattr__(self, name: str) -> Any:
        if name in ("weight", "bias"):
            check_reader(name)
        return super().__getattr__(name)

    def __reduce__(self):
        return _blank, (type(self).__bases__[-1],), vars(self)


@cache
def in_model(head_class: type[Head]) -> Any:
    """The class of a head that stands in a model."""
    return type(head_class.__name__, (HeadInModel, head_class), {"__module__": __name__})


def shifted(labels: Tensor, ignore_index: int) -> Tensor:
    """Position t predicts the label of position t + 1; the last one predicts nothing."""
    return F.pad(labels, (0, 1), value=ignore_index)[..., 1:]


def without_logits(head: Any, hidden: Tensor) -> Tensor:
    """(0, ..., V), what the model may pass on as its logits where nobody asks for them.

    There is no sequence in it, but it is as wide as the vocabulary: BART adds a vector of V to it.
    """
    return hidden.new_empty(0, *hidden.shape[1:-1], head.vocab_size)


def _auxiliary_weight(model: Any) -> float:
    """The factor of a router's loss, which a mixture of experts adds to the model's own."""
    for holder in (model, text_config(model.config)):
        for name in ("router_aux_loss_coef", "aux_loss_coef"):
            weight = getattr(holder, name, None)
            if weight is not None:
                return weight
    raise WideneckError(
        f"{type(model).__name__} has an auxiliary loss of unknown weight: call it without labels "
        "and take the loss of its logits."
    )


def _blank(head_class: type[Head]) -> Any:
    made = in_model(head_class)
    return made.__new__(made)
