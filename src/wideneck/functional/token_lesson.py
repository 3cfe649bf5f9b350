r"""What a teacher and soft targets say of tokens, and the gradient of all outputs in one pass.

With p of the student and t of the teacher, both tempered, m = beta t + (1 - beta) p::

    beta 0        KL(t || p) = sum t log(t / p),
    beta 1        KL(p || t) = sum p log(p / t),
    between       beta KL(t || m) + (1 - beta) KL(p || m)      (Agarwal et al. 2024, equation 1),

and of soft targets q, whose sum Q may be below 1, -sum_j q_j log p_j.  In the tempered log-score
s / T of the student their gradients are p - t, p (log(p / t) - KL(p || t)),
(1 - beta) p (log(p / m) - KL(p || m)) and Q p - q; of log p_t it is 1_t - p, of the entropy H
-p (log p + H).
"""

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from wideneck.functional.forms import Identity
from wideneck.functional.teacher import Lesson
from wideneck.functional.token_block import Block, by_token
from wideneck.functional.token_seen import Seen, see, through_mixture

LN_2 = math.log(2)


@final
@dataclass(frozen=True)
class Weights:
    """Gradients (n,) of a chunk's outputs; None for 0."""

    log_prob: Tensor | None = None
    entropy: Tensor | None = None
    divergence: Tensor | None = None
    cross_entropy: Tensor | None = None
    H: Tensor | None = None
    """The entropies, where theirs is there."""

    def at(self, some: slice | Tensor) -> "Weights":
        """Those of some tokens."""
        return Weights(*(None if x is None else x[some] for x in vars(self).values()))

    def to(self, dtype: torch.dtype) -> "Weights":
        """Numbers to compute with."""
        return Weights(*(None if x is None else x.to(dtype) for x in vars(self).values()))

    @property
    def is_of_divergence_alone(self) -> bool:
        return self.log_prob is self.entropy is self.cross_entropy is None


@final
@dataclass(frozen=True)
class Learned:
    """What a chunk gives; the scores are then their gradient but for the factor `narrow`."""

    divergence: Tensor | None
    """(n,)."""
    cross_entropy: Tensor | None
    """(n,)."""
    narrow: Tensor | None = None
    """(R,)."""
    log_prior: Tensor | None = None
    """(n, K)."""


@final
@dataclass(frozen=True)
class Room:
    """Memory of a part, of which the first is the longest.

    Not made for every part: the system would clear its pages.
    """

    student: list[Tensor]
    """Two (R, V)."""
    teacher: list[Tensor]
    """Two of the shape of the teacher's scores; none without one."""
    token: list[Tensor]
    """Two (n, V)."""

    @classmethod
    def of(cls, part: Block, lesson: Lesson) -> "Room":
        """For the first part."""
        z, V = part.z, part.z.shape[1]
        teacher = [] if lesson.teacher is None else [lesson.teacher.z] * 2
        token = [z.new_empty(len(part.target), V) for _ in range(2)]
        return cls(
            [torch.empty_like(z) for _ in range(2)], [torch.empty_like(t) for t in teacher], token
        )

    def student_for(self, part: Block) -> list[Tensor]:
        """Of a part that may be shorter."""
        return [spare[: len(part.z)] for spare in self.student]

    def token_for(self, part: Block) -> list[Tensor]:
        """Likewise."""
        return [spare[: len(part.target)] for spare in self.token]


def values(block: Block, lesson: Lesson) -> Learned:
    """The divergence and the cross entropy; the student's scores stay, the teacher's do not."""
    found: list[tuple[Tensor | None, Tensor | None]] = []
    room: Room | None = None
    for _, part, learns in lesson.parts(block):
        room = room or Room.of(part, learns)
        student, teacher = _both(part, learns, room, uses_up=False)
        soft, apart = _cross_entropy(student, part, learns), None
        if teacher is not None:
            spare = room.token_for(part)[0]
            apart, _ = diverge_(student, teacher, learns.beta, part, spare, None)
        found.append((apart, soft))
    return Learned(*_joined(found))


def to_gradient_(block: Block, lesson: Lesson, given: Weights, parameters: list[Tensor]) -> Learned:
    """The values again, and the student's scores become their own gradient.

    Args:
        block: the student's.
        lesson: what it is compared with.
        given: the gradients that come in.
        parameters: sums of the gradients of the form's, to which those of the chunk are added.
    """
    alone, form = given.is_of_divergence_alone, block.form
    single = block.log_prior is None
    uses_up = alone and single and isinstance(form, Identity)
    found, narrow, by_prior = [], [], []
    room: Room | None = None
    for some, part, learns in lesson.parts(block):
        room = room or Room.of(part, learns)
        weights = given.at(some)
        student, teacher = _both(part, learns, room, uses_up=uses_up)
        soft, apart, factor = _cross_entropy(student, part, learns), None, 0.0
        spare, own = room.token_for(part)
        # Where the bits are in the place of the scores, they are read before it is written.
        out = part.z if uses_up else own
        if teacher is None:
            out.zero_()
        else:
            apart, factor = diverge_(student, teacher, learns.beta, part, spare, out)
        row = out.new_ones(len(out)) / by_token(part.temperature)
        g = 0.0 if weights.divergence is None else weights.divergence * factor
        if alone:
            row = row * g
        else:
            out.mul_(g[:, None] if isinstance(g, Tensor) else g)
            _add_others_(out, student, part, learns, weights)
        row = row.repeat_interleave(block.num_components)
        weight = out
        if not single:
            weight, prior = _through(part, student, out.neg_(), room)
            by_prior.append(prior * part.by_component(row))
        if parameters:
            form.add_gradients_(parameters, part.z, weight * row[:, None])
        if weight is not part.z:
            form.times_slope(weight, part.z)
        found.append((apart, soft))
        narrow.append(row)
    prior = torch.cat(by_prior) if by_prior else None
    return Learned(*_joined(found), torch.cat(narrow), prior)


def _through(part: Block, student: Seen, q: Tensor, room: Room) -> tuple[Tensor, Tensor]:
    """Q = -dL / d log P, which is used up, on its way to the components."""
    assert student.mixed is not None
    if student.mixed.u is None:
        q.mul_((-student.mixed.log_prob).exp_())
    return through_mixture(part, student.mixed, q, room.student_for(part)[1])


def diverge_(
    p: Seen, t: Seen, beta: float, part: Block, spare: Tensor, out: Tensor | None
) -> tuple[Tensor, float]:
    """The divergence (n,); `out` becomes its gradient in s / T, but for the factor returned.

    Args:
        p: of the student, which stays until `out` is written.
        t: of the teacher, whose bits are used up.
        beta: in [0, 1].
        part: the student's tokens.
        spare: memory of the shape of p.
        out: likewise; None where no gradient is wanted.
    """
    shard = part.shard
    p_total, t_total = p.log2_total.squeeze(1), t.log2_total.squeeze(1)
    if beta == 0:
        bits = torch.sub(t.bits, p.bits, out=spare).mul_(t.p)
        found = shard.add_up(bits.sum(-1)) + (p_total - t_total)
        if out is not None:
            torch.sub(p.p, t.p, out=out)
        return found.mul_(LN_2).clamp_(min=0), 1.0
    if beta == 1:
        bits = torch.sub(p.bits, t.bits, out=spare).mul_(p.p)
        mean = shard.add_up(bits.sum(-1))
        if out is not None:
            torch.addcmul(bits, p.p, mean[:, None], value=-1, out=out)
        return (mean + (t_total - p_total)).mul_(LN_2).clamp_(min=0), LN_2
    m = torch.mul(t.p, beta, out=spare).add_(p.p, alpha=1 - beta)
    m = m.clamp_(min=torch.finfo(m.dtype).tiny).log2_()  # 0 only where both are
    of_t = t.bits.sub_(m).mul_(t.p).sum(-1)
    bits = torch.sub(p.bits, m, out=spare).mul_(p.p)
    of_t, of_p = shard.add_up(torch.stack([of_t, bits.sum(-1)]))
    if out is not None:
        torch.addcmul(bits, p.p, of_p[:, None], value=-1, out=out)
    found = beta * (of_t - t_total) + (1 - beta) * (of_p - p_total)
    return found.mul_(LN_2).clamp_(min=0), (1 - beta) * LN_2


def _add_others_(out: Tensor, p: Seen, part: Block, lesson: Lesson, given: Weights) -> None:
    """Adds the gradients of the other outputs."""
    of_p = torch.zeros_like(out[:, 0])
    if given.log_prob is not None:
        here, at = part.shard.local(part.target)
        of_p = of_p - given.log_prob
        out.scatter_add_(1, at[:, None], (given.log_prob * here)[:, None])
    if given.cross_entropy is not None:
        assert lesson.ids is not None
        assert lesson.probs is not None
        here, at = part.shard.local(lesson.ids)
        of_p = of_p + given.cross_entropy * lesson.probs.sum(-1)
        out.scatter_add_(1, at, -given.cross_entropy[:, None] * lesson.probs * here)
    if given.entropy is not None:
        assert given.H is not None
        h = given.entropy
        of_p = of_p - h * (given.H - LN_2 * p.log2_total.squeeze(1))
        out.sub_(p.bits * p.p * (LN_2 * h)[:, None])
    out.addcmul_(p.p, of_p[:, None])


def _cross_entropy(p: Seen, part: Block, lesson: Lesson) -> Tensor | None:
    """(n,), with the soft targets if there are any."""
    if lesson.ids is None:
        return None
    assert lesson.probs is not None
    here, at = part.shard.local(lesson.ids)
    bits = (p.bits.gather(1, at) - p.log2_total) * here
    return part.shard.add_up(-LN_2 * (bits * lesson.probs).sum(-1))


def _both(part: Block, lesson: Lesson, room: Room, *, uses_up: bool) -> tuple[Seen, Seen | None]:
    """The two distributions."""
    student = see(part, room.student_for(part), uses_up=uses_up)
    given = lesson.teacher
    if given is None:
        return student, None
    return student, see(given, [spare[: len(given.z)] for spare in room.teacher], uses_up=True)


def _joined(
    found: list[tuple[Tensor | None, Tensor | None]],
) -> tuple[Tensor | None, Tensor | None]:
    """The values of all parts."""
    apart, soft = ([one for one in parts if one is not None] for parts in zip(*found, strict=True))
    return torch.cat(apart) if apart else None, torch.cat(soft) if soft else None
