"""Normalizers that are softmaxes of changed scores, which run in PyTorch's own attention."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wideneck.attention.normalizer import Number, OfScaledScores, hide
from wideneck.registry import check_count, check_flag, check_number, name_of

if TYPE_CHECKING:
    from torch import Tensor

MUDARISOV = "Mudarisov et al. 2025, arXiv:2508.17821"


@dataclass(frozen=True, kw_only=True)
class SoftmaxLike(OfScaledScores):
    """A softmax of changed scores."""

    jacobian = "1/2"
    fused = True

    @property
    def sink(self) -> Any:
        """The score whose weight is thrown away: a number, a tensor, or None."""
        return None

    @property
    def most(self) -> int | None:
        """How many keys are kept, those of the largest scores; None for all."""
        return None

    def weights(
        self, scores: "Tensor", visible: "Tensor | None", n: "Tensor | None" = None
    ) -> "Tensor":
        import torch

        if self.most is not None:
            visible = kept(scores.detach(), visible, self.most)
        # By the least finite number, not -inf: then a row of hidden keys alone gives no NaN.
        scores = self.scaled(scores, visible, n)
        hidden = hide(scores, visible, torch.finfo(scores.dtype).min)
        weights = hidden.softmax(-1)
        if self.sink is not None:
            weights = weights * (hidden.logsumexp(-1, keepdim=True) - self.sink).sigmoid()
        return hide(weights, visible)


@dataclass(frozen=True, kw_only=True)
class Softmax(SoftmaxLike):
    """The baseline, and the model's own: `use(model, "softmax")` restores it."""

    name = "softmax"
    formula = "exp(l_i) / sum_j exp(l_j)"


@dataclass(frozen=True, kw_only=True)
class Temperature(SoftmaxLike):
    """A softmax of scores over T, on top of the 1 / sqrt(d) that the model applies."""

    temperature: Number = 1.0

    name = "temperature"
    formula = "softmax(l / T)"
    paper = MUDARISOV
    jacobian = "1 / (2 T)"
    is_scaled = True

    def __post_init__(self):
        check_number(name_of, self, "temperature", positive=True, tensor=True)

    def factor(self, n: "Tensor") -> Any:
        return 1 / self.temperature


@dataclass(frozen=True, kw_only=True)
class Softmax1(SoftmaxLike):
    """A softmax with one more score, always 0, whose weight is thrown away."""

    name = "softmax1"
    formula = "exp(l_i) / (1 + sum_j exp(l_j))"
    paper = "Miller 2023, evanmiller.org/attention-is-off-by-one.html"
    sums_to_one = False
    may_abstain = True

    @property
    def sink(self) -> Any:
        return 0.0


@dataclass(frozen=True, kw_only=True)
class Sink(SoftmaxLike):
    """A softmax with one more score per head, learned, whose weight is thrown away."""

    logit: Number = 0.0
    """b, where it starts; 0 is softmax1, far below the scores a softmax."""
    learned: bool = True

    name = "sink"
    formula = "exp(l_i) / (exp(b) + sum_j exp(l_j))"
    paper = "gpt-oss (OpenAI 2025)"
    sums_to_one = False
    may_abstain = True

    def __post_init__(self):
        check_number(name_of, self, "logit", tensor=True)
        check_flag(name_of, self, "learned")

    @property
    def sink(self) -> Any:
        return self.logit

    @property
    def learns(self) -> tuple[str, ...]:
        return ("logit",) if self.learned else ()


@dataclass(frozen=True, kw_only=True)
class SSMax(SoftmaxLike):
    """Scalable softmax: scores grow with the logarithm of the number of visible keys."""

    scale: Number = 1.0
    """s, per head where learned.  0 with bias 1 starts as the softmax."""
    bias: Number = 0.0
    """b; learned with the scale unless it is 0."""
    learned: bool = True

    name = "ssmax"
    formula = "softmax((s ln n + b) l)"
    paper = "Nakanishi 2025, arXiv:2501.19399"
    jacobian = "(s ln n + b) / 2"
    is_scaled = True

    def __post_init__(self):
        check_number(name_of, self, "scale", tensor=True)
        check_number(name_of, self, "bias", tensor=True)
        check_flag(name_of, self, "learned")

    def factor(self, n: "Tensor") -> Any:
        return self.scale * n.clamp(min=1).log() + self.bias

    @property
    def learns(self) -> tuple[str, ...]:
        if not self.learned:
            return ()
        return ("scale", "bias") if self.bias else ("scale",)


@dataclass(frozen=True, kw_only=True)
class LogN(SoftmaxLike):
    """Scores times ln n: SSMax with its scale fixed at 1."""

    name = "logn"
    formula = "softmax(l ln n)"
    paper = "Chiang & Cholak 2022, ACL"
    jacobian = "ln n / 2"
    is_scaled = True

    def factor(self, n: "Tensor") -> Any:
        return n.clamp(min=1).log()


@dataclass(frozen=True, kw_only=True)
class TopK(SoftmaxLike):
    """A softmax over the k largest scores; those equal to the k-th stay in, too."""

    k: int = 64

    name = "topk"
    formula = "softmax over the k largest l"
    paper = MUDARISOV
    jacobian = "1/2 where no two scores tie for place k"
    may_be_sparse = True

    def __post_init__(self):
        check_count(name_of, self, "k", 1)

    @property
    def most(self) -> int | None:
        return self.k


def kept(scores: "Tensor", visible: "Tensor | None", k: int) -> "Tensor":
    """True for the visible keys of the k largest scores, and for those equal to the k-th."""
    import torch

    if visible is None:
        visible = torch.ones((), dtype=torch.bool, device=scores.device)
    masked = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
    least = masked.topk(min(k, masked.shape[-1]), dim=-1).values[..., -1:]
    return visible & ~(masked < least)  # keeps a NaN, which must not vanish
