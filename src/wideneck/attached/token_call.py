"""What a model is asked of its tokens by `token_outputs`, and the call in which its head answers.

The request goes through the model's own call as a private keyword, beside the labels, so that
whatever wraps the model (DDP, FSDP, PEFT, accelerate) does what it does for a loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor, nn
from transformers.utils import ModelOutput

from wideneck.attached.head_in_model import Asked, Call, without_logits
from wideneck.errors import WideneckError
from wideneck.functional.teacher import Comparison
from wideneck.functional.token_op import DIFFERENTIABLE
from wideneck.functional.token_outputs import TokenOutputs, output_names

NOTHING_COMPARED = Comparison()
REQUEST = "token_request"
"""The private keyword of a forward."""


@dataclass(frozen=True)
class TokenRequest:
    """Which outputs, and of which temperature; the labels are the forward's own."""

    outputs: tuple[str, ...]
    temperature: float | Tensor = 1.0
    compared: Comparison = NOTHING_COMPARED


@dataclass
class TokenModelOutput(ModelOutput):
    """The fields of `TokenOutputs` in a form that wrappers of models look into."""

    log_prob: Tensor | None = None
    entropy: Tensor | None = None
    log_sum_sq_prob: Tensor | None = None
    mean_log_prob: Tensor | None = None
    top1: Tensor | None = None
    divergence: Tensor | None = None
    cross_entropy: Tensor | None = None
    aux_loss: Tensor | None = None
    """The router's loss, as the model gives it."""


@dataclass(frozen=True)
class Targets:
    """What each position is to predict."""

    target: Tensor
    """(B, T), or of labels that are shifted here (B, T - 1)."""
    ignore_index: int
    cuts: bool
    """Whether the last position has nothing to predict."""

    @classmethod
    def taken(cls, model: Any, options: dict[str, Any]) -> "Targets":
        """Take all that is about a loss out of the options of a forward."""
        labels, target = options.get("labels"), options.get("shift_labels")
        ignore_index = Asked.taken(model, options).ignore_index
        if target is not None:
            return cls(target, ignore_index, cuts=False)
        if labels is None:
            raise WideneckError(
                "token_outputs needs the tokens that are asked for: labels as the model takes "
                "them, or shift_labels that are aligned with the positions."
            )
        if model.config.is_encoder_decoder:
            return cls(labels, ignore_index, cuts=False)
        return cls(labels[:, 1:], ignore_index, cuts=True)


@dataclass
class TokenCall(Call):
    """Asks for the outputs of a head that is all that the model predicts from.

    What was asked for is left on the call by its name.
    """

    LEFT = DIFFERENTIABLE
    head: nn.Module
    targets: Targets
    request: TokenRequest

    def answer(self, head: Any, hidden: Tensor) -> Tensor:
        """What was found is left on the call; there are no logits."""
        for name, value in self.find(head, hidden).items():
            setattr(self, name, value)
        return self.leave(without_logits(head, hidden))

    def find(self, head: Any, hidden: Tensor) -> dict[str, Tensor]:
        """The outputs by their names."""
        outputs = head.token_outputs(
            hidden[:, :-1] if self.targets.cuts else hidden,
            self.targets.target.to(hidden.device),
            self.request.outputs,
            temperature=self.request.temperature,
            **vars(self.request.compared),
            ignore_index=self.targets.ignore_index,
        )
        return {name: getattr(outputs, name) for name in self.request.outputs}

    def result(self, original: Any) -> TokenModelOutput:
        """What the model returns, given what the original's forward returned."""
        told = {name: getattr(self, name) for name in self.request.outputs}
        return TokenModelOutput(**told, aux_loss=getattr(original, "aux_loss", None))


def ask_tokens(
    model: Any,
    labels: Tensor | None,
    shift_labels: Tensor | None,
    outputs: Sequence[str],
    temperature: float | Tensor,
    compared: Comparison,
    inputs: dict[str, Any],
) -> TokenOutputs:
    """Call a model, or what wraps it, with a request."""
    targets = {"labels": labels, "shift_labels": shift_labels}
    inputs |= {name: given for name, given in targets.items() if given is not None}
    names = output_names(outputs)
    compared.check(names)
    result = model(**inputs, **{REQUEST: TokenRequest(names, temperature, compared)})
    if not isinstance(result, TokenModelOutput):
        raise WideneckError(
            f"{type(model).__name__} did not pass the request for token outputs on to its model "
            f"with a head of wideneck, and returned a {type(result).__name__}: ask that model."
        )
    return TokenOutputs(**{f.name: getattr(result, f.name) for f in fields(TokenOutputs)})
