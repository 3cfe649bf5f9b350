"""What the attention section reports: one record per head, and what is common to all."""

from dataclasses import dataclass

from wideneck.audits.estimate import Estimate
from wideneck.audits.measure import measure

GEOMETRY = "geometry of weights and vectors: a description, not a diagnosis; see ablation"


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Five numbers over all heads of the model."""

    lowest: float = measure("smallest")
    quarter: float = measure("first quartile")
    median: float = measure("median")
    three_quarters: float = measure("third quartile")
    highest: float = measure("largest")


@dataclass(frozen=True, kw_only=True)
class HeadMeasures:
    """One head, means over its queries; the geometry at N = reference_size."""

    layer: int = measure("layer, from 1 at the embeddings")
    head: int = measure("head, from 1")
    entropy: float = measure("mean over queries of - sum_i p_i log p_i", unit="nats")
    effective_keys: float = measure("mean over queries of exp(entropy)", unit="keys")
    spread: float = measure(
        "mean over queries with at least two visible keys of entropy / log n: 1 is uniform"
    )
    first_key: float = measure("mean weight of the first key, over the queries that follow it")
    sink_share: float = measure(
        "share of windows in which the first key's importance, its mean weight over the queries "
        "that see it, is above 0.3 (Gu et al. 2024)"
    )
    mass: float = measure("mean weight of the N selected keys together, at N = reference_size")
    distance: float = measure(
        "mean of sum over keys outside of ||p_i x_i - s||, at N = reference_size", caution=GEOMETRY
    )
    separability: float = measure(
        "mean share N_s / N of selected keys with p_i x_i nearer to s than any key outside; x_i of "
        "length 1, as the paper assumes, unless choices has normalize_geometry = False",
        caution=GEOMETRY,
    )
    jacobian_spectral: float | None = measure(
        "mean exact spectral norm of dp/dl, l the scores after scaling; none where this normalizer "
        "has no closed form"
    )
    jacobian_frobenius: float | None = measure("mean exact Frobenius norm of dp/dl")
    ablation: Estimate | None = measure(
        "loss with this head's output replaced by the plain mean of its visible values, minus the "
        "loss without, per token",
        unit="nats",
        caution="one head at a time: heads that stand in for each other all look dispensable",
    )


@dataclass(frozen=True, kw_only=True)
class SizePoint:
    """All heads at one number N of selected keys: means over queries, then over heads."""

    size: int = measure("N: the keys of largest weight that count as selected")
    num_queries: int = measure("queries measured for each head, over all windows")
    num_excluded: int = measure("further queries that see no more than N keys, left out")
    mass: float = measure("weight of the selected keys together")
    distance: float = measure(
        "sum over visible keys outside of ||p_i x_i - s||, s = sum of p_j x_j over the selected: "
        "the reading of the paper's equation 7 that fits its prose and its bound"
    )
    distance_net: float = measure(
        "||sum over keys outside of p_i x_i - s||: the equation as reviews print it"
    )
    distance_summed: float = measure("||sum over keys outside of (p_i x_i - s)||")
    bound: float = measure(
        "theorem 1, fixed set: an upper bound of distance, with the actual weight outside in place "
        "of 1 - mass",
        caution="its bracket is DERIVED: rebuilt by us from the paper's prose, and proved; the "
        "paper's own may differ",
    )
    bound_tight: float = measure("the same with ||s|| / mass in place of the longest vector, ours")
    expected_paper: float = measure(
        "theorem 1, random set, main term: a lower bound of the expectation, by Jensen's "
        "inequality",
        caution="DERIVED: rebuilt by us from the paper's prose, which may have N / L where this "
        "has N / (L - 1)",
    )
    expected_upper: float = measure("a rigorous upper bound of the same expectation, ours")
    expected_monte_carlo: float = measure("the expectation itself, from random sets")
    separability: Spread = measure("N_s / N by head, over heads")
    separability_lower: float | None = measure(
        "theorem 2, lower bound; mean over the queries where it is finite",
        caution="DERIVED: rebuilt by us from the paper's prose; says nothing where negative; "
        "random quantities are treated as fixed",
    )
    separability_upper: float = measure(
        "theorem 2, upper bound",
        caution="DERIVED: rebuilt by us from the paper's prose; uses an upper bound of the mean "
        "where Hoeffding's inequality needs a lower one",
    )
    distance_by_head: list[list[float | None]] = measure(
        "distance, by layer and head; none where no query of the layer sees more than N keys"
    )
    separability_by_head: list[list[float | None]] = measure("N_s / N, likewise")


@dataclass(frozen=True, kw_only=True)
class LengthPoint:
    """Queries up to one context length, all heads."""

    length: int = measure("L: queries at positions 1 to L", unit="tokens")
    effective_keys: Spread = measure(
        "exp(entropy) by head, over heads; mean over queries that see L/2 < n <= L keys"
    )
    distance: float | None = measure(
        "mean distance over tokens and heads, N = reference_size; none where no measured query "
        "sees more than N keys, and, with include_masked, below the whole context"
    )
    bound: float | None = measure("mean bound of theorem 1, whose bracket is DERIVED, by us")
    expected_paper: float | None = measure(
        "mean main term of theorem 1, random set, which is DERIVED, by us"
    )
    expected_monte_carlo: float | None = measure("mean expectation, random set")


@dataclass(frozen=True, kw_only=True)
class StepPoint:
    """Finite differences of the softmax at one temperature and step (the paper's algorithm 5)."""

    temperature: float = measure("T, which divides the raw scores q k")
    step: float = measure("length eps of the random step of the scores")
    largest_head: float = measure(
        "mean over queries of ||softmax((l + eps v) / T) - softmax(l / T)|| / eps, v a random unit "
        "vector over the visible keys; of the head where it is largest",
        caution="measures the Frobenius norm over sqrt(n), far below the spectral norm",
    )
    bound: float = measure("min(1 / (2 T), sqrt(2) / eps): holds")
    paper_bound: float = measure(
        "min(1 / (4 T), sqrt(2)), the paper's corollary 3",
        caution="no bound of the spectral norm, which is 1 / (2 T) for two equal scores",
    )
    spectral: float = measure("mean over queries of the exact spectral norm, largest head")
    spectral_highest: float = measure("largest exact spectral norm over queries, windows and heads")
    frobenius: float = measure("mean over queries of the exact Frobenius norm, largest head")


@dataclass(frozen=True, kw_only=True)
class CriticalN:
    """The first N at which distance and expectation are not told apart over heads."""

    expectation: str = measure(
        "which expectation: monte_carlo; paper, the main term of theorem 1.2, which is DERIVED; or "
        "upper, ours"
    )
    size: int | None = measure(
        "first N, ascending from 1, at which the two-sample Kolmogorov-Smirnov test over heads "
        "does not reject; none up to the largest N tried",
        caution="not rejecting is not equality, and the two samples are paired by head, which the "
        "test does not know",
    )
    share: float | None = measure("size over the context length; the paper reports about 0.06")
    level: float = measure("of the test; the paper says 0.01 in its text, 0.05 in its algorithm")
    statistics: list[float] = measure("Kolmogorov-Smirnov statistics at N = 1, 2, ...")
    p_values: list[float] = measure("their p-values")


@dataclass(frozen=True, kw_only=True)
class Link:
    """How a measure and the loss of ablation go together over heads."""

    spearman: float = measure(
        "rank correlation with ablation over all heads",
        caution="heads of one model on one text; the ablation itself has noise",
    )
    spearman_without_depth: float | None = measure(
        "the same after both ranks have lost what is linear in the layer's number; none where "
        "nothing is left of them"
    )
    measure: str = measure("field of the heads")  # last: the name is taken from here on


@dataclass(frozen=True, kw_only=True)
class NormalizerPoint:
    """The same model and text under one normalizer, untrained for it."""

    normalizer: str = measure("name and parameters")
    route: str = measure(
        "how the attention is computed under it outside of the audit, and why not faster",
        default="",
    )
    loss: Estimate = measure("negative log-likelihood per token", unit="nats")
    change: Estimate = measure("loss minus that under the model's own normalizer", unit="nats")
    entropy: float = measure("mean over queries and heads", unit="nats")
    effective_keys: float = measure("mean over queries and heads", unit="keys")
    first_key: float = measure("mean weight of the first key")
    zeros: float = measure("share of visible keys whose weight is exactly 0")
    row_sum: float = measure("mean sum of a query's weights")
    mass: float = measure("mean weight of the N selected keys")
    separability: float = measure("mean N_s / N at N = reference_size")
    jacobian_spectral: float | None = measure("mean exact spectral norm; none without closed form")


@dataclass(frozen=True, kw_only=True)
class AttentionAudit:
    """Every attention head at work on a text."""

    normalizer: str = measure("what turns scores into weights in this model")
    route: str = measure(
        "how the attention is computed outside of the audit, which forms every score, and why not "
        "faster",
        default="",
    )
    num_layers: int = measure("layers with attention")
    num_heads: int = measure("query heads in a layer, the most if layers differ")
    context: int = measure("tokens in a window", unit="tokens")
    num_windows: int = measure("windows of text")
    num_queries: int = measure(
        "queries of each window that geometry and Jacobians are measured for, at equal distances"
    )
    reference_size: int = measure("N of the heads' geometry and of the curves over length")
    vectors: str = measure("what x_i is: values, hidden or embeddings")
    choices: list[str] = measure(
        "further choices that the paper leaves open, where they are not the defaults"
    )
    head_dim: int = measure("width of a head's values")
    temperature: float = measure(
        "the model's own T: 1 over the factor it puts on q k, in its first layer"
    )
    smallest_gap: float = measure(
        "smallest distance of two vectors of one head, scaled as for the separability: delta of "
        "the paper's assumptions; 0 where vectors repeat"
    )
    jacobian_limit: float | None = measure(
        "what no query's jacobian_spectral exceeds under this normalizer; none where it depends on "
        "learned numbers or is unbounded"
    )
    loss: Estimate = measure("negative log-likelihood per token on these windows", unit="nats")
    ablation_tokens: int = measure(
        "predictions that ablation was measured on, from the start of each window; 0 for none"
    )
    heads: list[HeadMeasures] = measure("one record per head, layer by layer")
    by_size: list[SizePoint] = measure("over N")
    by_length: list[LengthPoint] = measure("over the context length")
    by_step: list[StepPoint] = measure(
        "finite differences over temperature and step; empty for a normalizer that is not a softmax"
    )
    critical: list[CriticalN] = measure("critical N for each expectation; empty if not asked for")
    links: list[Link] = measure("measures against the loss of ablation; empty without ablation")
    comparison: list[NormalizerPoint] = measure("other normalizers, where asked for")
    notes: list[str] = measure("what could not be measured of the attention, and why")
