"""What section "cost" finds: every number with its definition."""

from dataclasses import dataclass

from wideneck.audits.estimate import Estimate
from wideneck.audits.measure import measure


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """KL(full || cheap) without running the cheap head; second order in the change, DERIVED."""

    moments: float | None = measure(
        "1/2 sum_i pi_i dw_i^T M dw_i times 1 - E sum_j p_j^2 (`concentration`): from the change "
        "dw of the rows, and the mean prediction pi and M = E[x x^T] of the other half of the "
        "text; none where no matrix changes, the change was fitted to that half, or the model caps "
        "its logits",
        unit="nats",
    )
    noise: float | None = measure(
        "1/2 E sum_i p_i (1 - p_i) sum_j v_ij x_j^2: errors of the weights as independent noise of "
        "the variance that the format's steps have, over some of the tokens; none where a format "
        "has no such model",
        unit="nats",
    )
    change: float = measure(
        "1/2 E Var_p(dz): from the true change of the logits",
        unit="nats",
        caution="a second-order expansion: near the divergence where that is small, below it where "
        "it is large",
    )


@dataclass(frozen=True, kw_only=True)
class OfCount:
    """The same for targets that stand so often in the text outside of the windows."""

    count: str = measure("how often")
    num_tokens: int = measure("predictions")
    kl: float = measure("mean KL(full || cheap)", unit="nats")
    nats: float = measure("mean loss of the cheap head minus loss of the head", unit="nats")
    top1: float = measure("share of predictions with the same most probable token")
    acceptance: float = measure("mean of sum_i min(p_i, q_i)")


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Sizes of the change of log p of the target, over the predictions."""

    half: float = measure("median of |change of log p|", unit="nats")
    ninety: float = measure("90th percentile", unit="nats")
    ninety_nine: float = measure("99th percentile", unit="nats")
    thousandth: float = measure("99.9th percentile", unit="nats")
    largest: float = measure("largest", unit="nats")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One cheaper head in the place of the head, the rest of the model as it is."""

    name: str = measure("format, rank or change")
    sort: str = measure(
        "format (rounded to nearest), better (the same format, fitted to hidden states), shifted "
        "(one vector taken off every row before rounding, which only a head that no embedding is "
        "tied to can do), low rank, or logits (what is rounded are states or logits)"
    )
    about: str = measure("what it is")
    num_bytes: int = measure(
        "bytes of codes, scales or factors, all of which the head reads for a token", unit="bytes"
    )
    share: float = measure("those over the bytes of the matrix in bfloat16")
    kl: Estimate = measure(
        "KL(full || cheap), mean over predictions",
        unit="nats",
        caution="the measure for small changes: the loss of a token moves by some sqrt(2 KL), so "
        "that the mean loss tells a change apart only over many more than 2 / KL tokens",
    )
    nats: Estimate = measure(
        "loss of the cheap head minus loss of the head, token by token", unit="nats"
    )
    top1: Estimate = measure("share of predictions with the same most probable token")
    acceptance: Estimate = measure(
        "sum_i min(p_i, q_i), p of the head and q of the cheap one: the share of its draws that "
        "the full model would accept if the cheap head drafted for it from the same states"
    )
    rms_probability: float = measure(
        "root mean square of the change of the target's probability, as llama.cpp prints it"
    )
    changes: Changes = measure("how far log p of the target moves")
    predicted: Predicted = measure("the divergence, predicted")
    by_count: list[OfCount] = measure("by how often the target stands in the text elsewhere")


@dataclass(frozen=True, kw_only=True)
class Trim:
    """The head without its rarer rows."""

    num_rows: int = measure(
        "rows K that stay: special tokens, then the ids that stand most often in the text elsewhere"
    )
    num_bytes: int = measure("bytes of those rows in bfloat16", unit="bytes")
    share: float = measure("those over the bytes of the matrix in bfloat16")
    missing: Estimate = measure(
        "probability of the rows that are gone, mean over predictions: 1 less the acceptance of a "
        "draft of this head",
        caution="as the model's own head it could not say those tokens at all, at infinite loss",
    )
    missing_targets: Estimate = measure("share of targets among the rows that are gone")
    top1: Estimate = measure("share of predictions whose most probable token stays")


@dataclass(frozen=True, kw_only=True)
class Dithered:
    """A format, measured from a head that is not rounded yet."""

    name: str = measure("format")
    kl: Estimate = measure(
        "KL of the head, moved at random within the steps that it is stored in, to that head "
        "rounded to the format",
        unit="nats",
        caution="stands in for the unrounded head, which nobody has here",
    )


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The smallest head within a limit."""

    limit: float = measure("largest divergence that was asked for", unit="nats")
    name: str | None = measure(
        "the smallest kind whose mean divergence is within it; none if none",
        caution="measured from the head as it is stored: the format that it is stored in, and "
        "finer ones, cost less here than they did",
    )
    nearest: str = measure("the kind with the smallest divergence")
    nearest_kl: float = measure("its divergence", unit="nats")


@dataclass(frozen=True, kw_only=True)
class CostAudit:
    """What a cheaper output layer costs on a text."""

    num_fit_tokens: int = measure("predictions that ranks, pi and M were fitted on")
    num_tokens: int = measure("other predictions, on which everything was measured")
    num_documents: int = measure("documents of the latter")
    bf16_bytes: int = measure("bytes of the matrix in bfloat16", unit="bytes")
    concentration: float = measure("E sum_j p_j^2, the mean squared length of a prediction")
    kinds: list[Kind] = measure("every cheaper head that was measured")
    trims: list[Trim] = measure("trimmed vocabularies")
    counted: int = measure("tokens of the text elsewhere that the counts are of")
    dithered: list[Dithered] = measure(
        "formats from the head moved within its own steps; empty where it is not stored rounded"
    )
    choice: Choice | None = measure("what a limit chooses; none if none was given")
    notes: list[str] = measure("what could not be measured, and why")
