"""What a comparison finds: every number with its definition."""

from dataclasses import dataclass

from wideneck.audits.estimate import Estimate
from wideneck.audits.measure import measure


@dataclass(frozen=True, kw_only=True)
class Source:
    """Text, software and command."""

    text: str = measure("the text")
    text_sha256: str = measure("hash of its documents")
    num_tokens: int = measure(
        "predictions, by the first model's tokens where tokenizers differ", unit="tokens"
    )
    num_documents: int = measure("documents that the predictions come from")
    window: int = measure("predictions in a row before the context starts anew", unit="tokens")
    seed: int = measure("chose the windows of the text")
    device: str = measure("where the models ran")
    versions: dict[str, str] = measure("software")
    command: str = measure("what was run")
    time: str = measure("when, UTC")
    seconds: dict[str, float] = measure("wall-clock time of each step", unit="seconds")
    notes: list[str] = measure("what a reader of the numbers should know")


@dataclass(frozen=True, kw_only=True)
class Bin:
    """A tenth of the predictions, by the probability of the most probable token."""

    num_tokens: int = measure("predictions")

    confidence: float = measure("mean probability of the most probable token")
    accuracy: float = measure("share of predictions where it was the target")


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Whether probabilities are those with which things happen."""

    error: float = measure(
        "mean over the bins of |confidence - accuracy|",
        caution="above 0 by chance alone, by some 0.4 / sqrt(tokens in a bin)",
    )
    bins: list[Bin] = measure("tenths of the predictions, the least confident first")


@dataclass(frozen=True, kw_only=True)
class LogNormalizer:
    """log sum_j exp(f(z_j))."""

    mean: float = measure("mean over predictions", unit="nats")
    sd: float = measure("standard deviation over predictions", unit="nats")


@dataclass(frozen=True, kw_only=True)
class OneModel:
    """A model by itself.  What needs its distributions is none where it predicts from a memory."""

    model: str = measure("the model, as it was named")
    head: str = measure('name of its head (`wideneck heads`), or "own": the model\'s output layer')
    num_parameters: int = measure("numbers that the model learned, a tied matrix counted once")
    loss: Estimate | None = measure(
        "mean negative log-likelihood; none where tokenizers differ", unit="nats"
    )
    bits_per_byte: Estimate = measure(
        "loss in bits over the UTF-8 bytes of the predicted text", unit="bits"
    )
    top1: Estimate | None = measure("share of predictions whose most probable token is the target")
    median_rank: float | None = measure(
        "median, over predictions, of how many tokens are more probable than the target"
    )
    calibration: Calibration | None = measure("of the most probable token")
    log_normalizer: LogNormalizer | None = measure("of the scores; none of a mixture")
    effective_rank: int | None = measure(
        "the fewest squared singular values of the matrix of log-probabilities that sum to all but "
        "1e-4 of the whole, as `wideneck evaluate --with ranks` measures it",
        caution="never more than the contexts that it is over",
    )
    rank_contexts: int | None = measure(
        "contexts that this rank is over, at equal distances over the predictions"
    )


@dataclass(frozen=True, kw_only=True)
class OfKind:
    """The difference on some of the tokens."""

    sort: str = measure(
        "what sets the tokens apart: count (of the target in the text outside of the windows), "
        "position (in the window, from 1), context (whether the target stands before in its "
        "window), word (whether the target goes on with a word: a letter or digit behind another)"
    )
    name: str = measure("which of them")
    num_tokens: int = measure("predictions")
    first: float = measure("mean loss of the first model", unit="nats")
    other: float = measure("mean loss of this model", unit="nats")
    difference: Estimate = measure("loss of this model minus loss of the first", unit="nats")


@dataclass(frozen=True, kw_only=True)
class Example:
    """One prediction on which the two differ."""

    before: str = measure("the end of the context")
    target: str = measure("what follows")
    first: float = measure("its probability by the first model")
    other: float = measure("its probability by this model")
    first_says: str = measure("most probable token of the first model")
    other_says: str = measure("most probable token of this model")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A model beside the first."""

    model: str = measure("the model")
    loss: Estimate | None = measure(
        "loss of this model minus loss of the first, prediction by prediction: below 0 this model "
        "is the better one; none where tokenizers differ",
        unit="nats",
    )
    bits_per_byte: Estimate = measure(
        "the same in bits per byte; where tokenizers differ, what this model needs for a byte "
        "minus what the first needs, passage by passage",
        unit="bits",
    )
    documents_to_see: int | None = measure(
        "documents (or windows, where the intervals are over those) with which an interval would "
        "leave out 0 in 80 % of repetitions, were the difference this one; none without an "
        "interval or difference",
        caution="1 / sqrt(n) applied to a mean and an interval that are estimated themselves",
    )
    kl_from_first: Estimate | None = measure(
        "KL(first || this), mean over predictions: what the first model would lose by predicting "
        "as this one does, if it were right; none where vocabularies differ",
        unit="nats",
    )
    kl_to_first: Estimate | None = measure("KL(this || first)", unit="nats")
    agreement: Estimate | None = measure(
        "share of predictions where both have the same most probable token"
    )
    kinds: list[OfKind] = measure("the difference by kind of token")
    better: list[Example] = measure("where this model gains most; one a target")
    worse: list[Example] = measure("where it loses most")


@dataclass(frozen=True, kw_only=True)
class OverSeeds:
    """Two groups of models, such as the seeds of two recipes."""

    name: str = measure("the tokens: all, or one of the kinds")
    first: float = measure("mean loss over the models of the first group", unit="nats")
    other: float = measure("the same of this group", unit="nats")
    difference: float = measure("this group minus the first", unit="nats")
    low: float | None = measure(
        "lower end of the 95 % interval over models (Welch's t); none where a group has one",
        caution="the text is one and the same: an interval over models says nothing of other text",
    )
    high: float | None = measure("upper end")
    models_to_see: int | None = measure(
        "models in each group with which an interval would leave out 0 in 80 % of repetitions, "
        "were the difference this one",
        caution="from a mean and deviations that are estimated from few models",
    )


@dataclass(frozen=True, kw_only=True)
class GroupDifference:
    """A group of models beside the first."""

    group: str = measure("the group, as it was named")
    num_models: int = measure("models in it")
    rows: list[OverSeeds] = measure("all tokens first, then by kind")
