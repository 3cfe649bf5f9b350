"""`linear_divergence`: distillation as a loss, with its gradient in the forward pass."""

from dataclasses import replace

import torch
from torch import Tensor

from wideneck.config import Activation, activation_config
from wideneck.errors import WideneckError
from wideneck.functional.affine import encode
from wideneck.functional.check import check_shapes, check_temperature
from wideneck.functional.distribution import widened
from wideneck.functional.in_forward import in_forward
from wideneck.functional.items import per_item
from wideneck.functional.loss import by_token
from wideneck.functional.numbers import plain_number
from wideneck.functional.options import LossOptions, Wanted
from wideneck.functional.products import asks_for_narrow
from wideneck.functional.teacher import Comparison, Teacher
from wideneck.functional.token_lesson import Weights
from wideneck.functional.token_op import FIXED, AskedOutputs, taught
from wideneck.functional.token_outputs import broadcast_temperature, linear_token_outputs
from wideneck.functional.transforms import refuse_transformed
from wideneck.functional.vocab_parallel import locate

IGNORED = -100


@torch.compiler.disable
def linear_divergence(
    input: Tensor,
    linear_weight: Tensor,
    teacher: Teacher | Tensor,
    *,
    beta: float = 0.0,
    temperature: float | Tensor = 1.0,
    mask: Tensor | None = None,
    linear_bias: Tensor | None = None,
    activation: str | Activation = "softmax",
    log_prior: Tensor | None = None,
    logit_scale: float = 1.0,
    reduction: str = "mean",
    chunk_size: int | None = None,
    group=None,
) -> Tensor:
    r"""The divergence of any head or mixture from a teacher's, without N x V numbers of either.

    With log_s and log_t the log-probabilities of the two, both tempered as in
    `linear_token_outputs`, and m = beta t + (1 - beta) s, the mean over tokens of::

        kl = lambda p, log_p, log_q: (p * (log_p - log_q)).sum(-1)
        kl(t, log_t, log_s)                                           # beta 0
        kl(s, log_s, log_t)                                           # beta 1
        beta * kl(t, log_t, log_m) + (1 - beta) * kl(s, log_s, log_m) # between

    Args:
        input, linear_weight, linear_bias, activation, log_prior, logit_scale, chunk_size, group:
            of the student, as in `linear_cross_entropy`.
        teacher: a `Teacher`, hidden states and their output layer; or log-probabilities
            (..., V), of which -inf counts as -1e30.  It gets no gradient.
        beta: in [0, 1].
        temperature: T > 0, a number or a tensor that broadcasts to the tokens.  The divergence is
            not multiplied by T^2.
        mask: (...), True for the tokens that count; None for all.
        reduction: "mean" over the tokens that count (0 if there are none), "sum", or "none".

    Returns:
        A scalar, or (...) with 0 where masked; nats, at least float32.

    Cost:
        "mean" and "sum": three products of the student and one of the teacher.  "none" computes
        both scores again in the backward pass: six.  Memory: one chunk of scores of each, and a few
        blocks.  `torch.compile` leaves the graph here.

    Raises:
        WideneckError: shapes and numbers that do not fit, and what `linear_token_outputs` refuses.
    """
    tokens = input.shape[:-1] if log_prior is None else log_prior.shape[:-1]
    target = _target(mask, tokens, input.device)
    layer = {
        "linear_bias": linear_bias,
        "activation": activation,
        "log_prior": log_prior,
        "logit_scale": logit_scale,
        "chunk_size": chunk_size,
        "group": group,
    }
    if reduction == "none":
        told = linear_token_outputs(
            input,
            linear_weight,
            target,
            outputs=("divergence",),
            teacher=teacher,
            beta=beta,
            temperature=temperature,
            ignore_index=IGNORED,
            **layer,
        )
        assert told.divergence is not None
        return told.divergence
    refuse_transformed("Token outputs")
    if log_prior is not None:
        dtype = torch.promote_types(log_prior.dtype, torch.float32)
        log_prior = log_prior.log_softmax(-1, dtype=dtype)
    weight, bias, shard = locate(linear_weight, linear_bias, group, mask)
    check_shapes(input, weight, tokens, bias, log_prior, reduction, chunk_size)
    number, tempered = broadcast_temperature(temperature, target)
    config, scale = activation_config(activation), plain_number("logit_scale", logit_scale)
    given = by_token(input, weight, tokens, bias, config, log_prior, scale, shard)
    narrow = asks_for_narrow(input, linear_weight)
    asked = AskedOutputs(
        encode(given.form),
        LossOptions(reduction, IGNORED, chunk_size=chunk_size, narrow=narrow),
        shard,
        number=number,
        outputs=("divergence",),
        lessons=Comparison(teacher, beta).lessons(tokens, given, group),
    )
    counts = target.reshape(-1) != IGNORED
    check_temperature(tempered, counts)
    count = counts.sum() if reduction == "mean" else 1

    def run(wanted: Wanted, tensors: tuple) -> tuple[Tensor, Tensor, list[Tensor]]:
        dtype = widened(input, weight)
        token = per_item(input.new_ones(len(counts), dtype=dtype), count)
        weights = Weights(divergence=token)
        (found, _), gradients = taught(replace(asked, wanted=wanted), tensors, weights)
        return per_item(found.sum(), count), found, gradients

    tensors = given.X, weight, given.b, given.log_prior, given.scale, target.reshape(-1), tempered
    every = (*tensors, *given.form.parameters)
    return in_forward(run, every, FIXED, learning=torch.is_grad_enabled())[0]


def _target(mask: Tensor | None, tokens: torch.Size, device: torch.device) -> Tensor:
    """Any token where it counts."""
    if mask is None:
        return torch.zeros(tokens, dtype=torch.long, device=device)
    if mask.dtype != torch.bool or mask.shape != tokens:
        raise WideneckError(
            f"mask must be bool of the tokens' shape {tuple(tokens)}, True where one counts, got "
            f"{mask.dtype} of shape {tuple(mask.shape)}."
        )
    return torch.where(mask.to(device), 0, IGNORED)
