"""Every attention normalizer as a frozen dataclass.  Imports no torch.

A normalizer turns the scores l of one query against its visible keys, n of them, into weights p.
`NORMALIZERS` is the one list of what exists: `normalize`, `use`, the command line, the saved
config of a model, the test matrix and the table in the docs are all read off it.

The flags say what a normalizer promises of a row with a visible key: `sums_to_one`; `may_be_sparse`
(visible keys may get exactly 0); `may_abstain` (the row may sum to less than 1).  `jacobian` is the
largest spectral norm of dp/dl; "fused" ones are softmaxes of changed scores and run in PyTorch's
scaled dot-product attention.
"""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from wideneck.registry import (
    as_number,
    check_count,
    check_flag,
    check_number,
    configure,
    name_in,
)

if TYPE_CHECKING:
    from torch import Tensor

Number: TypeAlias = "float | Tensor"
"""A tensor has a number a row of scores (..., K): per head of (B, H, Q, K), of shape (H, 1, 1)."""

MUDARISOV = "Mudarisov et al. 2025, arXiv:2508.17821"
NAKANISHI = "Nakanishi 2025, arXiv:2501.19399"
ENTMAX = "Peters et al. 2019; Correia et al. 2019, arXiv:1909.00015"


def name_of(config: "Normalizer") -> str:
    """The name in `NORMALIZERS` of a config's kind."""
    return name_in(NORMALIZERS, config)


@dataclass(frozen=True, kw_only=True)
class Normalizer:
    """What the normalizers have in common; never itself one."""

    formula: ClassVar[str] = ""
    paper: ClassVar[str] = "-"
    jacobian: ClassVar[str] = "1/2"
    fused: ClassVar[bool] = False
    sums_to_one: ClassVar[bool] = True
    may_be_sparse: ClassVar[bool] = False
    may_abstain: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class Softmax(Normalizer):
    """The baseline, and the model's own: `use(model, "softmax")` restores it."""

    formula: ClassVar[str] = "exp(l_i) / sum_j exp(l_j)"
    fused: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Temperature(Normalizer):
    """A softmax of scores over T, on top of the 1 / sqrt(d) that the model applies."""

    temperature: Number = 1.0

    formula: ClassVar[str] = "softmax(l / T)"
    paper: ClassVar[str] = MUDARISOV
    jacobian: ClassVar[str] = "1 / (2 T)"
    fused: ClassVar[bool] = True

    def __post_init__(self):
        check_number(name_of, self, "temperature", positive=True, tensor=True)


@dataclass(frozen=True, kw_only=True)
class Softmax1(Normalizer):
    """A softmax with one more score, always 0, whose weight is thrown away."""

    formula: ClassVar[str] = "exp(l_i) / (1 + sum_j exp(l_j))"
    paper: ClassVar[str] = "Miller 2023, evanmiller.org/attention-is-off-by-one.html"
    fused: ClassVar[bool] = True
    sums_to_one: ClassVar[bool] = False
    may_abstain: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Sink(Normalizer):
    """A softmax with one more score per head, learned, whose weight is thrown away."""

    logit: Number = 0.0
    """b, where it starts; 0 is softmax1, far below the scores a softmax."""
    learned: bool = True

    formula: ClassVar[str] = "exp(l_i) / (exp(b) + sum_j exp(l_j))"
    paper: ClassVar[str] = "gpt-oss (OpenAI 2025)"
    fused: ClassVar[bool] = True
    sums_to_one: ClassVar[bool] = False
    may_abstain: ClassVar[bool] = True

    def __post_init__(self):
        check_number(name_of, self, "logit", tensor=True)
        check_flag(name_of, self, "learned")


@dataclass(frozen=True, kw_only=True)
class SSMax(Normalizer):
    """Scalable softmax: scores grow with the logarithm of the number of visible keys."""

    scale: Number = 1.0
    """s, per head where learned.  0 with bias 1 starts as the softmax."""
    bias: Number = 0.0
    """b; learned with the scale unless it is 0."""
    learned: bool = True

    formula: ClassVar[str] = "softmax((s ln n + b) l)"
    paper: ClassVar[str] = NAKANISHI
    jacobian: ClassVar[str] = "(s ln n + b) / 2"
    fused: ClassVar[bool] = True

    def __post_init__(self):
        check_number(name_of, self, "scale", tensor=True)
        check_number(name_of, self, "bias", tensor=True)
        check_flag(name_of, self, "learned")


@dataclass(frozen=True, kw_only=True)
class LogN(Normalizer):
    """Scores times ln n: SSMax with its scale fixed at 1."""

    formula: ClassVar[str] = "softmax(l ln n)"
    paper: ClassVar[str] = "Chiang & Cholak 2022, ACL"
    jacobian: ClassVar[str] = "ln n / 2"
    fused: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class TopK(Normalizer):
    """A softmax over the k largest scores; those equal to the k-th stay in, too."""

    k: int = 64

    formula: ClassVar[str] = "softmax over the k largest l"
    paper: ClassVar[str] = MUDARISOV
    jacobian: ClassVar[str] = "1/2 where no two scores tie for place k"
    fused: ClassVar[bool] = True
    may_be_sparse: ClassVar[bool] = True

    def __post_init__(self):
        check_count(name_of, self, "k", 1)


@dataclass(frozen=True, kw_only=True)
class Sparsemax(Normalizer):
    """The point of the simplex nearest to the scores."""

    formula: ClassVar[str] = "max(l_i - tau, 0)"
    paper: ClassVar[str] = "Martins & Astudillo 2016, arXiv:1602.02068"
    jacobian: ClassVar[str] = "1"
    may_be_sparse: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Entmax15(Normalizer):
    """Half way between softmax and sparsemax: entmax of alpha 1.5."""

    formula: ClassVar[str] = "max(l_i / 2 - tau, 0)^2"
    paper: ClassVar[str] = ENTMAX
    jacobian: ClassVar[str] = "1; 2^(-1/2) for two keys"
    may_be_sparse: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Entmax(Normalizer):
    """Softmax at alpha 1, sparsemax at 2, sparser the larger alpha."""

    alpha: Number = 1.5
    """Per head where learned, then between 1 and 2."""
    learned: bool = True

    formula: ClassVar[str] = "max((alpha - 1) l_i - tau, 0)^(1 / (alpha - 1))"
    paper: ClassVar[str] = ENTMAX
    jacobian: ClassVar[str] = "1 for alpha <= 2, 2^(alpha - 2) for two keys; unbounded above"
    may_be_sparse: ClassVar[bool] = True

    def __post_init__(self):
        check_number(name_of, self, "alpha", least=1, tensor=True)
        check_flag(name_of, self, "learned")


@dataclass(frozen=True, kw_only=True)
class ASEntmax(Normalizer):
    """Adaptive-scalable entmax: scores times delta + beta ln(n + 1)^gamma, then entmax.

    In a model beta = softplus(w . x) and gamma = reach tanh(v . x), with x the hidden state that
    enters the attention layer and w, v learned for each head, 0 at the start.
    """

    alpha: Number = 1.5
    delta: Number = 1.0
    reach: float = 2.0
    """Largest size of gamma in a model."""
    beta: Number = 0.6931471805599453
    """ln 2 = softplus(0), where a model starts."""
    gamma: Number = 0.0

    formula: ClassVar[str] = "entmax((delta + beta ln(n + 1)^gamma) l)"
    paper: ClassVar[str] = "Vasylenko et al. 2025, arXiv:2506.16640"
    jacobian: ClassVar[str] = "delta + beta ln(n + 1)^gamma"
    may_be_sparse: ClassVar[bool] = True

    def __post_init__(self):
        check_number(name_of, self, "alpha", least=1, tensor=True)
        for name in ("delta", "beta", "gamma"):
            check_number(name_of, self, name, tensor=True)
        check_number(name_of, self, "reach", least=0)


@dataclass(frozen=True, kw_only=True)
class Sigmoid(Normalizer):
    """Every key by itself."""

    bias: "Number | None" = None
    """b; None for -ln n, which starts a row of zero scores near the sum 1."""

    formula: ClassVar[str] = "sigmoid(l_i + b), b = -ln n"
    paper: ClassVar[str] = "Ramapuram et al. 2024, arXiv:2409.04431"
    jacobian: ClassVar[str] = "1/4"
    sums_to_one: ClassVar[bool] = False
    may_abstain: ClassVar[bool] = True

    def __post_init__(self):
        if self.bias is not None:
            check_number(name_of, self, "bias", tensor=True)


@dataclass(frozen=True, kw_only=True)
class ReLU(Normalizer):
    """Positive scores over the number of visible keys; rows may also sum to more than 1."""

    formula: ClassVar[str] = "max(l_i, 0) / n"
    paper: ClassVar[str] = "Wortsman et al. 2023, arXiv:2309.08586"
    jacobian: ClassVar[str] = "1 / n"
    sums_to_one: ClassVar[bool] = False
    may_be_sparse: ClassVar[bool] = True
    may_abstain: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class StickBreaking(Normalizer):
    """From the newest key back, each key takes its share of what is left; needs no positions."""

    formula: ClassVar[str] = "sigmoid(l_i) prod_(j newer) (1 - sigmoid(l_j))"
    paper: ClassVar[str] = "Tan et al. 2024, arXiv:2410.17980"
    jacobian: ClassVar[str] = "(2 e)^(-1/2), proved; 0.354 seen"
    sums_to_one: ClassVar[bool] = False
    may_abstain: ClassVar[bool] = True


NORMALIZERS: dict[str, Normalizer] = {
    "softmax": Softmax(),
    "temperature": Temperature(),
    "softmax1": Softmax1(),
    "sink": Sink(),
    "ssmax": SSMax(),
    "logn": LogN(),
    "topk": TopK(),
    "sparsemax": Sparsemax(),
    "entmax15": Entmax15(),
    "entmax": Entmax(),
    "asentmax": ASEntmax(),
    "sigmoid": Sigmoid(),
    "relu": ReLU(),
    "stickbreaking": StickBreaking(),
}
"""Every normalizer by name, with its defaults."""


def normalizer_config(normalizer: "str | dict | Normalizer", **options: Any) -> Normalizer:
    """A normalizer's config by name, from its dictionary, or as it is; options replace its fields.

    Raises:
        WideneckError: an unknown name or option (with the nearest known one), a value out of range.
    """
    return configure(normalizer, options, NORMALIZERS, "normalizer", name_of=name_of)


def to_dict(config: Normalizer) -> dict[str, Any]:
    """The config as TOML and JSON hold it: its name and every field; `normalizer_config` reads it.

    Numbers given as tensors become numbers; None is left out.

    Raises:
        WideneckError: a tensor of several numbers.
    """
    result: dict[str, Any] = {"name": name_of(config)}
    for field in fields(config):
        value = as_number(name_of, config, field.name)
        if value is not None:
            result[field.name] = value
    return result


def names() -> list[str]:
    """Every normalizer by name."""
    return list(NORMALIZERS)
