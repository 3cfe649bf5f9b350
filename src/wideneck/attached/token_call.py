"""`token_outputs`: what a model is asked of its tokens, and the call in which its head answers.

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
from wideneck.functional.token_outputs import TokenOutputs, output_names
from wideneck.heads.head import Head

REQUEST = "token_request"
"""The private keyword of a forward."""


@dataclass(frozen=True)
class TokenRequest:
    """Which outputs, and of which temperature; the labels are the forward's own."""

    outputs: tuple[str, ...]
    temperature: float | Tensor = 1.0


@dataclass
class TokenModelOutput(ModelOutput):
    """The fields of `TokenOutputs` in a form that wrappers of models look into."""

    log_prob: Tensor | None = None
    entropy: Tensor | None = None
    log_sum_sq_prob: Tensor | None = None
    mean_log_prob: Tensor | None = None
    top1: Tensor | None = None
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

    LEFT = ("log_prob", "entropy")
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
    inputs: dict[str, Any],
) -> TokenOutputs:
    """Call a model, or what wraps it, with a request."""
    targets = {"labels": labels, "shift_labels": shift_labels}
    inputs |= {name: given for name, given in targets.items() if given is not None}
    result = model(**inputs, **{REQUEST: TokenRequest(output_names(outputs), temperature)})
    if not isinstance(result, TokenModelOutput):
        raise WideneckError(
            f"{type(model).__name__} did not pass the request for token outputs on to its model "
            f"with a head of wideneck, and returned a {type(result).__name__}: ask that model."
        )
    return TokenOutputs(**{f.name: getattr(result, f.name) for f in fields(TokenOutputs)})


def token_outputs(
    model: Any,
    *inputs: Any,
    outputs: Sequence[str] = ("log_prob",),
    temperature: float | Tensor = 1.0,
    labels: Tensor | None = None,
    shift_labels: Tensor | None = None,
    **options: Any,
) -> TokenOutputs:
    """Log-probability, entropy and more of every target, never with the logits of all tokens.

    A head is asked by `token_outputs(head, hidden, target, outputs=...)`, as by its own method.  A
    model of `wideneck.attach` or `attach_memory`, or what DDP, FSDP, PEFT or accelerate have made
    of it, is asked by `token_outputs(model, input_ids=..., attention_mask=..., labels=...)`,
    through its own call.  With a memory the outputs are those of the mixture.

    Args:
        model: a head, or a model that holds one.
        inputs: of a head, hidden states (..., D) and target (...).
        outputs: some of "log_prob", "entropy", "log_sum_sq_prob", "mean_log_prob", "top1".
        temperature: T > 0 of the distribution, a number or a tensor that broadcasts to the
            fields; see `wideneck.functional.linear_token_outputs`.
        labels: (B, T), as the model takes them: shifted here, unless the model has an encoder.
        shift_labels: (B, T), aligned with the positions, in the place of labels.
        options: of the model's forward; of a head, `ignore_index` and `chunk_size`.

    Returns:
        The fields that were asked for, in nats: (B, T - 1) for labels that are shifted here, else
        (B, T); 0 where the label is -100.  Gradients flow through `log_prob` and `entropy`.

    Cost: the model's forward and `Head.token_outputs`; with a memory, all V log-probabilities of
        some positions at a time, twice where gradients are wanted.

    Raises:
        WideneckError: no head of wideneck in the model, or what `linear_token_outputs` refuses.
    """
    if isinstance(model, Head):
        if len(inputs) != 2 or labels is not None or shift_labels is not None:
            raise WideneckError("token_outputs of a head takes hidden states and their targets.")
        return model.token_outputs(*inputs, outputs, temperature=temperature, **options)
    if inputs:
        raise WideneckError(
            "token_outputs of a model takes its inputs by name, as in input_ids=ids, labels=ids."
        )
    from wideneck.attached.model import ModelWithHead  # which imports what is above

    parts = model.modules() if isinstance(model, nn.Module) else ()
    if not any(isinstance(part, ModelWithHead) for part in parts):
        raise WideneckError(
            f"token_outputs needs a head of wideneck or a model that holds one, got a "
            f"{type(model).__name__}: call wideneck.attach(model, 'softmax') first."
        )
    return ask_tokens(model, labels, shift_labels, outputs, temperature, options)
