"""What a student is compared with: a teacher's distribution, and soft targets of a few tokens.

Letters as in `fused`.  A teacher that is given by its states is multiplied out a chunk at a time
beside the student, in memory of its own, and gets no gradient.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from wideneck.config import ACTIVATIONS, Activation, activation_config
from wideneck.errors import WideneckError
from wideneck.functional.check import check_ids, check_shapes
from wideneck.functional.chunks import chunk_tokens
from wideneck.functional.forms import Form, Identity
from wideneck.functional.kept import Kept
from wideneck.functional.loss import by_token
from wideneck.functional.numbers import plain_number
from wideneck.functional.options import Layer
from wideneck.functional.products import asks_for_narrow
from wideneck.functional.scores import Scores
from wideneck.functional.shard import Shard
from wideneck.functional.token_block import Block
from wideneck.functional.vocab_parallel import locate

SOFTMAX = Identity(ACTIVATIONS["softmax"])


@final
@dataclass(frozen=True)
class Teacher:
    """The hidden states of a teacher and its output layer, which get no gradient.

    Arguments as those of `linear_token_outputs`, but for the teacher: its width, activation and
    number of components are its own, its vocabulary is the student's.
    """

    input: Tensor
    """(..., D), or for a mixture (..., K, D)."""
    linear_weight: Tensor
    """(V, D)."""
    linear_bias: Tensor | None = None
    """(V,)."""
    activation: str | Activation = "softmax"
    log_prior: Tensor | None = None
    """(..., K), the logarithms of the mixture's weights."""
    logit_scale: float = 1.0

    def rows(self, at: Any) -> "Teacher":
        """That of some of the leading positions."""
        prior = None if self.log_prior is None else self.log_prior[at]
        return replace(self, input=self.input[at], log_prior=prior)


@final
@dataclass(frozen=True)
class Lesson:
    """What the tokens of a chunk are compared with."""

    teacher: Block | None
    """Its scores are used up."""
    beta: float
    ids: Tensor | None
    """(n, M)."""
    probs: Tensor | None
    """(n, M)."""

    def parts(self, block: Block) -> Iterator[tuple[slice, Block, "Lesson"]]:
        """Some tokens of the student's block at a time, and the same of this."""
        for some, part in block.parts():
            teacher = None if self.teacher is None else self.teacher.at(some)
            ids, probs = (None if x is None else x[some] for x in (self.ids, self.probs))
            yield some, part, Lesson(teacher, self.beta, ids, probs)


@final
@dataclass(frozen=True)
class Lessons:
    """What all tokens are compared with."""

    layer: Layer | None = None
    """The teacher's, of its states."""
    log_probs: Tensor | None = None
    """(N, V), over the whole vocabulary, in the place of its states."""
    beta: float = 0.0
    ids: Tensor | None = None
    """(N, M)."""
    probs: Tensor | None = None
    """(N, M)."""
    narrow: bool = False

    def chunk_size(self, number: int, student: int) -> int:
        """Tokens of a chunk that neither of the two would cut further."""
        if self.layer is None:
            return student
        layer = self.layer
        return min(student, chunk_tokens(layer.X, layer.W, number, layer.shard, None))

    def chunks(self, kept: Kept, size: int, shard: Shard) -> Iterator[tuple[Tensor | None, Form]]:
        """Of every chunk the teacher's scores (R, V), and their form."""
        if self.layer is not None:
            layer = self.layer
            how = {"narrow": self.narrow, "scale": layer.scale, "place": "teacher"}
            given = layer.X, layer.W, layer.b, kept, layer.shard, size
            for _, _, z in Scores(*given, **how):
                yield z, layer.form
            return
        for n in kept.chunks(size):
            z = None
            if self.log_probs is not None:
                here = (
                    slice(None) if shard.is_whole else slice(shard.start, shard.start + shard.size)
                )
                z = self.log_probs[n, here]
                # Of a probability of 0 the logarithm must be a number, which times 0 is 0.
                z = z.to(torch.promote_types(z.dtype, torch.float32)).clamp(min=-1e30)
            yield z, SOFTMAX

    def lesson(self, n: Any, student: Block, z: Tensor | None, form: Form) -> Lesson:
        """That of a chunk."""
        teacher = None
        if z is not None:
            prior = None if self.layer is None else self.layer.log_prior
            prior = None if prior is None else prior[n].to(z.dtype)
            T = student.temperature
            teacher = Block(z, student.target, T, prior, form, student.shard)
        ids, probs = (None if x is None else x[n] for x in (self.ids, self.probs))
        return Lesson(teacher, self.beta, ids, None if probs is None else probs.to(student.z.dtype))


@final
@dataclass(frozen=True)
class Comparison:
    """What a caller of token outputs compares with, as it came."""

    teacher: Teacher | Tensor | None = None
    beta: float = 0.0
    soft_ids: Tensor | None = None
    soft_probs: Tensor | None = None

    @property
    def learns(self) -> bool:
        """Whether there is something."""
        return self.teacher is not None or self.soft_ids is not None

    def check(self, names: Sequence[str]) -> None:
        """What is asked for, by the names of outputs, and what is given must be the same."""
        if ("divergence" in names) != (self.teacher is not None):
            raise WideneckError(
                "The output 'divergence' is the one that takes a teacher: ask for it and pass "
                "teacher=, or neither."
            )
        given = self.soft_ids is not None, self.soft_probs is not None
        if given != ("cross_entropy" in names,) * 2:
            raise WideneckError(
                "The output 'cross_entropy' is the one that takes soft_ids and soft_probs: ask for "
                "it and pass both, or neither."
            )

    def lessons(self, tokens: torch.Size, student: Layer, group: Any) -> Lessons:
        """The same, checked and flat.

        Args:
            tokens: shape of the targets.
            student: what is compared.
            group: of processes that share its vocabulary.
        """
        beta, V, teacher = plain_number("beta", self.beta), student.vocab_size, self.teacher
        if not 0 <= beta <= 1:
            raise WideneckError(
                "beta must lie in [0, 1]: 0 is KL(teacher || student) and 1 is "
                f"KL(student || teacher); got {beta}."
            )
        ids, probs = _soft(tokens, V, self.soft_ids, self.soft_probs)
        found = Lessons(None, None, beta, ids, probs)
        if teacher is None:
            return found
        if isinstance(teacher, Tensor):
            if not teacher.is_floating_point() or teacher.shape != (*tokens, V):
                raise WideneckError(
                    f"The teacher's log-probabilities must be floating point of shape "
                    f"{(*tokens, V)}, got {teacher.dtype} of shape {tuple(teacher.shape)}."
                )
            return replace(found, log_probs=teacher.detach().reshape(-1, V))
        if not isinstance(teacher, Teacher):
            raise WideneckError(
                "teacher is a wideneck.functional.Teacher of hidden states and an output layer, or "
                f"a tensor of log-probabilities (..., V); got a {type(teacher).__name__}."
            )
        narrow = asks_for_narrow(teacher.input, teacher.linear_weight)
        with torch.no_grad():
            layer = _layer(teacher, tokens, student, group)
        return replace(found, layer=layer, narrow=narrow)


def _layer(teacher: Teacher, tokens: torch.Size, student: Layer, group: Any) -> Layer:
    """The teacher's, which must have the student's vocabulary."""
    x, prior, weight = teacher.input.detach(), teacher.log_prior, teacher.linear_weight.detach()
    if prior is not None:
        prior = prior.log_softmax(-1, dtype=torch.promote_types(prior.dtype, torch.float32))
    group = None if isinstance(weight, DTensor) else group
    weight, bias, shard = locate(weight, teacher.linear_bias, group)
    try:
        check_shapes(x, weight, tokens, bias, prior, "none", None)
    except WideneckError as error:
        raise WideneckError(f"Of the teacher: {error}") from None
    config = activation_config(teacher.activation)
    scale = plain_number("logit_scale", teacher.logit_scale)
    layer = by_token(x, weight, tokens, bias, config, prior, scale, shard)
    if layer.vocab_size != student.vocab_size or len(weight) != len(student.W):
        raise WideneckError(
            f"A teacher must have the student's vocabulary, over processes split alike: the "
            f"student's is {student.vocab_size}, the teacher's {layer.vocab_size}."
        )
    if not x.device == weight.device == student.X.device:
        raise WideneckError(
            f"A teacher must be on the student's device {student.X.device}: its states are on "
            f"{x.device} and its weight on {weight.device}."
        )
    return layer


def _soft(
    tokens: torch.Size, vocab_size: int, ids: Tensor | None, probs: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """Flat ids and probabilities; or neither."""
    if ids is None or probs is None:
        return None, None
    check_ids(ids)
    if ids.shape[:-1] != tokens or ids.shape != probs.shape or not probs.is_floating_point():
        raise WideneckError(
            f"soft_ids and soft_probs must have shape {(*tokens, 'M')}, the probabilities floating "
            f"point, got {tuple(ids.shape)} and {probs.dtype} of shape {tuple(probs.shape)}."
        )
    if ids.numel():
        low, high = torch.stack(ids.aminmax()).tolist()
        if low < 0 or high >= vocab_size:
            raise WideneckError(
                f"soft_ids must lie in [0, {vocab_size}), got {low if low < 0 else high}: give "
                "what is masked any token, with a probability of 0."
            )
    M = ids.shape[-1]
    return ids.reshape(-1, M).long(), probs.detach().reshape(-1, M)
