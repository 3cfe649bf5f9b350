"""Measures of every target of a head or of a model, by one chunked pass."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from wideneck.attached.model import ModelWithHead
from wideneck.attached.token_call import ask_tokens
from wideneck.errors import WideneckError
from wideneck.functional.teacher import Comparison, Teacher
from wideneck.functional.token_outputs import TokenOutputs
from wideneck.heads.head import Head


def token_outputs(
    model: Any,
    *inputs: Any,
    outputs: Sequence[str] = ("log_prob",),
    temperature: float | Tensor = 1.0,
    teacher: Teacher | Tensor | None = None,
    beta: float = 0.0,
    soft_ids: Tensor | None = None,
    soft_probs: Tensor | None = None,
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
        outputs: some of "log_prob", "entropy", "log_sum_sq_prob", "mean_log_prob", "top1",
            "divergence", "cross_entropy".
        temperature: T > 0 of the distribution, a number or a tensor that broadcasts to the
            fields; see `wideneck.functional.linear_token_outputs`.
        teacher, beta, soft_ids, soft_probs: what the last two compare with, of the shape of the
            fields; see `wideneck.functional.linear_token_outputs`.
        labels: (B, T), as the model takes them: shifted here, unless the model has an encoder.
        shift_labels: (B, T), aligned with the positions, in the place of labels.
        options: of the model's forward; of a head, `ignore_index` and `chunk_size`.

    Returns:
        The fields that were asked for, in nats: (B, T - 1) for labels that are shifted here, else
        (B, T); 0 where the label is -100.  Gradients flow through all but `log_sum_sq_prob`,
        `mean_log_prob` and `top1`.

    Cost: the model's forward and `Head.token_outputs`; with a memory, all V log-probabilities of
        some positions at a time, twice where gradients are wanted.

    Raises:
        WideneckError: no head of wideneck in the model, or what `linear_token_outputs` refuses.
    """
    compared = Comparison(teacher, beta, soft_ids, soft_probs)
    if isinstance(model, Head):
        if len(inputs) != 2 or labels is not None or shift_labels is not None:
            raise WideneckError("token_outputs of a head takes hidden states and their targets.")
        options = {"temperature": temperature, **vars(compared), **options}
        return model.token_outputs(*inputs, outputs, **options)
    if inputs:
        raise WideneckError(
            "token_outputs of a model takes its inputs by name, as in input_ids=ids, labels=ids."
        )
    parts = model.modules() if isinstance(model, nn.Module) else ()
    if not any(isinstance(part, ModelWithHead) for part in parts):
        raise WideneckError(
            f"token_outputs needs a head of wideneck or a model that holds one, got a "
            f"{type(model).__name__}: call wideneck.attach(model, 'softmax') first."
        )
    return ask_tokens(model, labels, shift_labels, outputs, temperature, compared, options)
