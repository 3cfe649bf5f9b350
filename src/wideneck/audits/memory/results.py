"""What the memory section reports."""

from dataclasses import dataclass

from wideneck.audits.estimate import Estimate
from wideneck.audits.measure import measure

UNTRAINED = (
    "measured without training for it: not what a cache would gain, or find, in a model trained "
    "with one"
)


@dataclass(frozen=True, kw_only=True)
class DistanceShare:
    """Predictions whose target last stood at a distance from `nearest` on."""

    nearest: int = measure("least distance; 1 is the token before", unit="tokens")
    farthest: int | None = measure("largest distance; none: no limit", unit="tokens")
    share: Estimate = measure("share of all predictions")


@dataclass(frozen=True, kw_only=True)
class Recurrence:
    """How often the next token is one that the window has shown already."""

    share: Estimate = measure(
        "share of predictions whose target stands among the values of the visible memory, the "
        "tokens from the second one of the window up to the current one",
        caution="grows with the window: early predictions see little of it",
    )
    elsewhere: Estimate | None = measure(
        "the same for targets from the same places of up to 8 windows of other documents (of the "
        "same one where there is one only): what frequent words alone give; none from one window"
    )
    by_distance: list[DistanceShare] = measure("by how far back the target last stood")


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """How high the target stands among the distinct tokens of the memory."""

    reciprocal_rank: Estimate = measure(
        "mean of 1 / (1 + a + t / 2) over the predictions whose target is in the memory: a other "
        "tokens score higher than the target and t the same, each token by its best position",
        caution=UNTRAINED,
    )
    first: Estimate = measure("share of these predictions at which no other token scores as high")


@dataclass(frozen=True, kw_only=True)
class LayerRetrieval:
    """Tokens ranked by the similarity of hidden states at one depth."""

    layer: str = measure(
        "where: embeddings, the output of layer 1 ... L (the last of them before the final norm), "
        "or entering the head (after the final norm), which is what a cache head reads"
    )
    dot: Retrieval = measure(
        "by h_i . h_j / sqrt(d), with h_i the state that makes the prediction",
        caution="one very long state, such as many models keep at the first position, can come "
        "first for every query",
    )
    cosine: Retrieval = measure("by the cosine of h_i and h_j")


@dataclass(frozen=True, kw_only=True)
class RankBaselines:
    """The same ranks without hidden states."""

    recency: Retrieval = measure("the token seen last comes first")
    frequency: Retrieval = measure("the token seen most comes first, the later of equals")
    token_identity: Retrieval = measure(
        "tokens that followed an earlier occurrence of the current token come first, then the "
        "rest, each by recency"
    )
    chance: Estimate = measure("H_n / n, the mean reciprocal rank in a random order of n tokens")


@dataclass(frozen=True, kw_only=True)
class Cache:
    """One cache beside the model, measured on text that it was not fitted on."""

    mixture: str = measure(
        "joint: (p_model(y) + sum over v_j = y of exp(theta s_j + b)) / (1 + the sum over all j), "
        "the global form of Grave et al. 2017; linear: (1 - w) p_model(y) + w times the softmax of "
        "theta s_j summed over v_j = y; published: joint with raw scores, exp(z_y) in place of "
        "p_model(y) and the sum of all exp(z) in place of 1 (Wan et al. 2023, equation 3)"
    )
    scores: str = measure(
        "s_j: similarity, h_i . h_j / sqrt(d) of the states entering the head; same token, 1 where "
        "the token at memory j is the current one, else 0; counts, 0 for all"
    )
    theta: float | None = measure(
        "factor on s_j, fitted between 0 and 10 over the spread of s_j: 1 / temperature of a "
        "Memory; none where s_j is 0 or no cache helped"
    )
    bias: float | None = measure(
        "b, fitted; none for a linear mixture, and where no cache helped on the fitted half: it is "
        "then left out"
    )
    weight: float | None = measure("w, fitted, 0 where no cache helped; none for joint ones")
    mass: float = measure("share of the probability that the cache gets, mean over predictions")
    fitted_gain: float | None = measure(
        "gain on the text that it was fitted on: at least 0; none for published, which is not",
        unit="nats",
    )
    loss: Estimate = measure("loss with this cache on the other half", unit="nats")
    gain: Estimate = measure(
        "loss of the model minus loss with this cache, per token, on the other half",
        unit="nats",
        caution=UNTRAINED,
    )
    over_counts: Estimate | None = measure(
        "loss with the same mixture over counts minus loss with this one: what s_j adds to mere "
        "repetition; none for counts and published",
        unit="nats",
    )


@dataclass(frozen=True, kw_only=True)
class CacheGain:
    """Nats that a cache of the window gains, without training."""

    num_fit_tokens: int = measure("predictions that theta, b and w were fitted on")
    num_test_tokens: int = measure("other predictions, on which all losses were measured")
    spread: float | None = measure(
        "standard deviation of h_i . h_j / sqrt(d) over the visible memories of a prediction, mean "
        "over the fitted predictions: with theta = 1 a large spread looks at one memory only"
    )
    loss: Estimate | None = measure("loss of the model alone on the other half", unit="nats")
    caches: list[Cache] = measure(
        "fitted on one half of the documents, measured on the other",
        caution="a cache within one window; one that reaches further back sees more",
    )
    skipped: str = measure("why no cache was measured; empty if they were")


@dataclass(frozen=True, kw_only=True)
class MemoryAudit:
    """What the context holds of the next token, and what the hidden states find of it.

    Memory j of a window is the state h_j at position j with the token v_j that followed it; a
    prediction at position i sees those with j < i (Grave et al. 2017; Wan et al. 2023).
    """

    num_tokens: int = measure("predictions made", unit="tokens")
    num_documents: int = measure("documents that the windows come from")
    window: int = measure("predictions in a row before the memory starts anew", unit="tokens")
    recurrence: Recurrence = measure("how often the next token stands in the context")
    num_ranked: int = measure("predictions whose target is in the memory: those that are ranked")
    distinct: float = measure("distinct tokens in the memory, mean over the ranked predictions")
    layers: list[LayerRetrieval] = measure(
        "ranks by similarity, by layer; empty where no target is in the memory"
    )
    baselines: RankBaselines | None = measure(
        "ranks without hidden states; none where no target is in the memory"
    )
    gain: CacheGain = measure("what a cache gains in nats, with its numbers fitted and no training")
    notes: list[str] = measure("what could not be measured of the memory, and why")
