"""`linear_token_outputs`: what trainers ask of a token's distribution, without N x V numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from wideneck.config import Activation, activation_config
from wideneck.errors import WideneckError
from wideneck.functional.affine import encode
from wideneck.functional.check import check_ids, check_shapes
from wideneck.functional.differentiable import applied
from wideneck.functional.loss import by_token, linear_cross_entropy
from wideneck.functional.numbers import plain_number
from wideneck.functional.options import LossOptions
from wideneck.functional.products import asks_for_narrow
from wideneck.functional.token_op import OUTPUTS, AskedOutputs, EagerValues, TokenValues
from wideneck.functional.transforms import refuse_transformed
from wideneck.functional.vocab_parallel import locate


@final
@dataclass(frozen=True)
class TokenOutputs:
    """What the distribution p over the vocabulary says of each target, in nats.

    Every field has the shape of the targets and is None where it was not asked for, 0 (False)
    where the target is ignored.  Gradients flow through `log_prob` and `entropy` alone.
    """

    log_prob: Tensor | None = None
    """log p of the target."""
    entropy: Tensor | None = None
    """-sum_j p_j log p_j."""
    log_sum_sq_prob: Tensor | None = None
    """log sum_j p_j^2: minus the Renyi entropy of order 2."""
    mean_log_prob: Tensor | None = None
    """The mean of log p_j over the vocabulary."""
    top1: Tensor | None = None
    """Whether the target is the most probable token, the first of those that tie."""


def linear_token_outputs(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    activation: str | Activation = "softmax",
    log_prior: Tensor | None = None,
    logit_scale: float = 1.0,
    outputs: Sequence[str] = ("log_prob",),
    temperature: float | Tensor = 1.0,
    ignore_index: int = -100,
    chunk_size: int | None = None,
    group=None,
) -> TokenOutputs:
    r"""Log-probability, entropy and more of any activation, or a mixture of K of them.

    With log_p as in `linear_cross_entropy`, the same as::

        log_p = (log_p / temperature[..., None]).log_softmax(-1)
        log_prob = log_p.gather(-1, target[..., None])[..., 0]
        entropy = -(log_p.exp() * log_p).sum(-1)
        log_sum_sq_prob = (2 * log_p).logsumexp(-1)
        mean_log_prob = log_p.mean(-1)
        top1 = log_p.argmax(-1) == target

    Args:
        input: hidden states, (..., D) with `target` (...), or for a mixture (..., K, D).
        linear_weight: (V, D).  A DTensor sharded on its rows runs vocabulary-parallel.
        target: token ids, integers in [0, V) or `ignore_index`.
        linear_bias: (V,).
        activation: as in `linear_cross_entropy`.
        log_prior: (..., K), the logarithms of the mixture's weights.
        logit_scale: as in `linear_cross_entropy`.
        outputs: the names of the fields to compute: "log_prob", "entropy", "log_sum_sq_prob",
            "mean_log_prob", "top1".
        temperature: T > 0, a number or a tensor that broadcasts to the shape of `target`.  It
            tempers the distribution, log p / T renormalized, as sampling from our
            log-probabilities does: not the scores in front of the activation.
        ignore_index: the target that counts nothing.
        chunk_size: as in `linear_cross_entropy`.
        group: as in `linear_cross_entropy`.

    Returns:
        The fields that were asked for, at least float32.

    Cost:
        That of `linear_cross_entropy` with reduction "none", and a few passes over a block of
        scores in the cache; of a mixture, one logarithm and one exponential a token of the
        vocabulary, whatever K is, for all but the log-probability at T = 1.  The entropy's gradient
        and that of a T other than 1 are one more pass.  Memory: one chunk of scores and three
        blocks of it.

    Raises:
        WideneckError: what `linear_cross_entropy` refuses, an unknown output, a temperature that
            is not positive or that asks for a gradient.
    """
    names = output_names(outputs)
    refuse_transformed("Token outputs")
    if log_prior is not None:
        # So that p is normalized also as a function of log_prior, whose gradients are a matter of
        # convention otherwise; a head's log_prior is normalized already.
        dtype = torch.promote_types(log_prior.dtype, torch.float32)
        log_prior = log_prior.log_softmax(-1, dtype=dtype)
    if names == ("log_prob",) and not isinstance(temperature, Tensor) and temperature == 1:
        nll = linear_cross_entropy(
            input,
            linear_weight,
            target,
            linear_bias=linear_bias,
            activation=activation,
            log_prior=log_prior,
            logit_scale=logit_scale,
            reduction="none",
            ignore_index=ignore_index,
            chunk_size=chunk_size,
            group=group,
        )
        return TokenOutputs(log_prob=-nll)
    weight, bias, shard = locate(linear_weight, linear_bias, group, target)
    check_shapes(input, weight, target.shape, bias, log_prior, "none", chunk_size)
    check_ids(target)
    number, tempered = broadcast_temperature(temperature, target)
    config = activation_config(activation)
    logit_scale = plain_number("logit_scale", logit_scale)
    layer = by_token(input, weight, target.shape, bias, config, log_prior, logit_scale, shard)
    asked = AskedOutputs(
        encode(layer.form),
        LossOptions(
            "none",
            ignore_index,
            chunk_size=chunk_size,
            narrow=asks_for_narrow(input, linear_weight),
        ),
        shard,
        learning=torch.is_grad_enabled(),
        number=number,
        outputs=names,
    )
    leading = (layer.X, weight, layer.b, layer.log_prior, layer.scale)
    tensors = (*leading, target.reshape(-1).long(), tempered)
    found = applied(TokenValues, EagerValues, shard)(asked, *tensors, *layer.form.parameters)
    fields = {name: one.view(target.shape) for name, one in zip(names, found, strict=True)}
    return TokenOutputs(**fields)


def outputs_of(
    log_probs: Tensor, target: Tensor, names: Sequence[str], temperature: float | Tensor = 1.0
) -> dict[str, Tensor]:
    """The outputs by name, where all log-probabilities are there.

    Args:
        log_probs: (N, V).
        target: (N,), none of them ignored.
        names: of the outputs.
        temperature: a number, or (N, 1).
    """
    log_p = (log_probs / temperature).log_softmax(-1)
    told: dict[str, Tensor] = {}
    if "log_prob" in names:
        told["log_prob"] = log_p.gather(-1, target[:, None])[:, 0]
    if "entropy" in names:
        told["entropy"] = -(log_p.exp() * log_p).sum(-1)
    with torch.no_grad():
        if "log_sum_sq_prob" in names:
            told["log_sum_sq_prob"] = (2 * log_p).logsumexp(-1)
        if "mean_log_prob" in names:
            told["mean_log_prob"] = log_p.mean(-1)
        if "top1" in names:
            told["top1"] = log_p.argmax(-1) == target
    return told


def output_names(outputs: Sequence[str]) -> tuple[str, ...]:
    """Each once, in the order of the fields."""
    several = isinstance(outputs, list | tuple | set | frozenset)
    given = tuple(outputs) if several else (outputs,)
    unknown = [name for name in given if name not in OUTPUTS]
    if unknown or not given:
        raise WideneckError(
            f"outputs are some of {', '.join(OUTPUTS)}, got {unknown[0] if unknown else 'none'!r}."
        )
    return tuple(name for name in OUTPUTS if name in given)


def broadcast_temperature(given: float | Tensor, target: Tensor) -> tuple[float, Tensor | None]:
    """A number, or one for each of the N targets."""
    if not isinstance(given, Tensor):
        if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < 1e30:
            raise WideneckError(f"temperature must be a positive number, got {given!r}.")
        return float(given), None
    if given.is_complex() or given.dtype == torch.bool:
        raise WideneckError(f"temperature must be positive numbers, got {given.dtype}.")
    if given.requires_grad:
        raise WideneckError(
            "token outputs have no gradient for the temperature: pass temperature.detach()."
        )
    try:
        every = given.to(target.device).expand(target.shape)
    except RuntimeError as error:
        raise WideneckError(
            f"A temperature of shape {tuple(given.shape)} does not broadcast to the targets' "
            f"{tuple(target.shape)}."
        ) from error
    return 1.0, every.reshape(-1)
