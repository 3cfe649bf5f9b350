"""What is watched, with the definition of every number beside it.

Symbols: N sampled tokens, V vocabulary, d hidden size; h the state that enters the output layer, W
its matrix, z the scores that the softmax sees, p the prediction, mu the mean row of W.
"""

from dataclasses import dataclass

from wideneck.audits.measure import measure

GAUGE = "adding one vector to every row of W changes it and no prediction"


@dataclass(frozen=True, kw_only=True)
class Watched:
    """The quantities of one step, all of the weights that its loss was computed with."""

    step: int = measure("training step, counted from 1; the weights are those before its update")
    loss: float | None = measure(
        "the training loss as the trainer gives it", unit="nats", default=None
    )
    valid_loss: float | None = measure("the loss on held-out text", unit="nats", default=None)
    tokens: int | None = measure("N: tokens of the step that were looked at", default=None)
    largest_score: float | None = measure(
        "mean over tokens of the largest |z_j|", caution=GAUGE, default=None
    )
    largest_above_mean: float | None = measure(
        "mean over tokens of the largest z_j less the mean of all z_j; adding one vector to every "
        "row of W does not change it",
        default=None,
    )
    mean_score: float | None = measure(
        "mean of z over tokens and vocabulary; without a cap or a bias that is mu . h, h the mean "
        "state",
        caution=GAUGE,
        default=None,
    )
    log_normalizer: float | None = measure(
        "mean over tokens of log sum_j exp z_j", caution=GAUGE, default=None
    )
    log_normalizer_variance: float | None = measure(
        "its variance over tokens", caution=GAUGE, default=None
    )
    entropy: float | None = measure(
        "mean over tokens of -sum_j p_j log p_j", unit="nats", default=None
    )
    sum_sq_prob: float | None = measure("mean over tokens of sum_j p_j^2", default=None)
    top_prob: float | None = measure("mean over tokens of the largest p_j", default=None)
    top1: float | None = measure(
        "share of the tokens whose target is the most probable one", default=None
    )
    state_norm: float | None = measure("root mean square over tokens of ||h||", default=None)
    head_gradient_share: float | None = measure(
        "share of the squared norm of the gradient that lies in W",
        caution="where the embedding is the same matrix, its gradient is in it",
        default=None,
    )
    mean_row_norm: float | None = measure("||mu||", default=None)
    mean_row_share: float | None = measure(
        "V ||mu||^2 / ||W||_F^2: the share of W that a softmax does not see", default=None
    )
    row_norm_p05: float | None = measure("5th percentile of the lengths of the rows", default=None)
    row_norm_median: float | None = measure("their median", default=None)
    row_norm_p95: float | None = measure("their 95th percentile", default=None)
    row_norm_maximum: float | None = measure("the longest row", default=None)
    bf16_margin: float | None = measure(
        "powers of two between the largest |W_ij| and the largest number of bfloat16", default=None
    )
    stable_rank: float | None = measure("||W||_F^2 / s_0^2", caution=GAUGE, default=None)
    stable_rank_centred: float | None = measure(
        "the same of W - 1 mu^T, which adding one vector to every row does not change",
        default=None,
    )
    singular_entropy: float | None = measure(
        "of W - 1 mu^T: log d - H(p), p_i = s_i^2 / sum_j s_j^2; 0 is flat, log d is rank one",
        unit="nats",
        default=None,
    )
    gradient_kept: float | None = measure(
        "sum over tokens of ||P g||^2 over the sum of ||g||^2, where g is the gradient of a "
        "token's loss in z and P projects on the columns of W: what reaches the model below",
        caution="geometry, not harm: in the controlled test of arXiv 2608.16671 such shares did "
        "not predict how training goes on",
        default=None,
    )
    effective_rank: float | None = measure(
        "exp of the entropy of s / sum s, s the singular values of the sampled states less their "
        "mean",
        caution="grows with the number of sampled tokens until that is several times d, so compare "
        "steps of one run",
        default=None,
    )
