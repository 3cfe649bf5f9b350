"""What a memory is and how it is trained, as a frozen dataclass.  Imports no torch."""

from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from wideneck.errors import WideneckError
from wideneck.registry import check_count, check_flag, check_number, check_option

MIXTURES = ("joint", "linear")
SCORES = ("log_probs", "logits")
LOSSES = ("trime", "cross_entropy")
VALUES = ("input_ids", "labels")
REDUCTIONS = ("pair_mean", "sum", "offset_mean", "offset_sum")
RANKS = ("visible", "all")


def _name(_: "Memory") -> str:
    return "A memory"


@dataclass(frozen=True, kw_only=True)
class Memory:
    """A cache head: the tokens of the context, scored by the similarity of hidden states.

    With z the model's scores and s_j = h . h_j / (sqrt(d) temperature) + bias the similarity of
    memory j, whose token is v_j:

    - joint, "log_probs":  p(w) ~ p_model(w) + sum_{v_j = w} exp(s_j)
    - joint, "logits":     p(w) ~ exp(z_w) + sum_{v_j = w} exp(s_j)    (Wan et al. 2023, Eq. 3)
    - linear:              p(w) = (1 - weight) p_model(w) + weight softmax(s) summed over v_j = w

    A softmax does not see a constant added to all z, "logits" does; with normalized scores exp(s_j)
    is measured against the model's whole probability, 1.  The defaults of temperature and bias are
    measured when the memory is attached, so that the model starts close to its own predictions;
    `Memory.published()` is the paper's.
    """

    temperature: float | None = None
    """Divides the similarities; None: measured, so that they spread by 1.  The paper's is 1."""
    bias: float | None = None
    """Added to them; None: measured, for a memory that starts with 1 % of the probability.  The
    paper's is 0; a linear mixture, which does not see it, has 0."""
    learned: bool = True
    """Whether temperature and bias are trained with the model."""
    mixture: str = "joint"
    """"joint", one normalizer for both, or "linear" (Grave et al. 2017)."""
    scores: str = "log_probs"
    """The model's side of a joint mixture, "log_probs" or "logits"."""
    weight: float = 0.1
    """The memory's share in a linear mixture."""
    window: int | None = None
    """How many of the last memories a position sees; None for all.  Not for an encoder's."""
    separator: int | None = None
    """The token that ends a document: no memory crosses it.  None: one document a sequence."""
    loss: str = "trime"
    """"trime", the mixture's likelihood, or "cross_entropy", the model's alone."""
    alpha: float = 1.0
    """Weight of the ranking loss; 0 leaves it out."""
    margin: float = 1e-3
    """What a negative is asked to lie below a positive, for each rank between them."""
    reduction: str = "pair_mean"
    """How the ranking loss adds up: "pair_mean", "sum" (Eq. 5 as DERIVED, over the targets),
    "offset_mean" (released for GPT-2) or "offset_sum" (released for BART)."""
    rank_over: str = "visible"
    """Ranks count the "visible" memories, or "all" columns as the released code."""
    values: str = "input_ids"
    """Where the likelihood finds the memory's tokens.  "labels" is what was released: a context
    without labels then holds no positives."""
    warmup_batches: int = 0
    """Training batches, from the first on, that train the model alone by cross-entropy."""

    paper: ClassVar[str] = "Wan et al. 2023, arXiv:2305.04782; Zhong et al. 2022, arXiv:2205.12674"

    def __post_init__(self):
        if self.temperature is not None:
            check_number(_name, self, "temperature", positive=True)
        if self.bias is not None:
            check_number(_name, self, "bias")
        check_flag(_name, self, "learned")
        check_number(_name, self, "weight")
        if not 0 < self.weight < 1:
            raise WideneckError(f"A memory needs 0 < weight < 1, got {self.weight}.")
        if self.window is not None:
            check_count(_name, self, "window", 1)
        if self.separator is not None:
            check_count(_name, self, "separator", 0)
        check_number(_name, self, "alpha", least=0)
        check_number(_name, self, "margin", least=0)
        check_count(_name, self, "warmup_batches", 0)
        for name, known in (
            ("mixture", MIXTURES),
            ("scores", SCORES),
            ("loss", LOSSES),
            ("reduction", REDUCTIONS),
            ("rank_over", RANKS),
            ("values", VALUES),
        ):
            value = getattr(self, name)
            if value not in known:
                raise WideneckError(
                    f"A memory's {name} is one of {', '.join(known)}, got {value!r}."
                )
        if self.mixture == "linear" and self.scores == "logits":
            raise WideneckError(
                "A linear mixture is of probabilities: leave out scores='logits', which belongs "
                "to a joint one."
            )

    @classmethod
    def published(cls, **options: Any) -> "Memory":
        """Equation 3 as it stands: raw scores on both sides, no temperature, no bias."""
        fixed = {"temperature": 1.0, "bias": 0.0, "learned": False, "scores": "logits"}
        return memory_config({**fixed, **options})


def memory_config(memory: "Memory | dict | None" = None, **options: Any) -> Memory:
    """A memory's config from its dictionary, or as it is; options replace its fields.

    Raises:
        WideneckError: an unknown option (with the nearest known one), a value out of range.
    """
    if memory is None:
        memory = {}
    if isinstance(memory, Memory):
        memory = to_dict(memory)
    if not isinstance(memory, dict):
        raise WideneckError(
            f"Expected a wideneck.Memory or its dictionary, got {type(memory).__name__}."
        )
    given = {**memory, **options}
    names = [field.name for field in fields(Memory)]
    for option in given:
        check_option(str(option), names, "a memory")
    return Memory(**given)


def to_dict(memory: Memory) -> dict[str, Any]:
    """The config as JSON and TOML hold it: the fields that are not None."""
    return {name: value for name, value in asdict(memory).items() if value is not None}
