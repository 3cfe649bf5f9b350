"""Pure functions of tensors: activations, distributions and the fused loss."""

from wideneck.functional.distribution import log_mixture as log_mixture
from wideneck.functional.distribution import log_prob as log_prob
from wideneck.functional.distribution import log_score as log_score
from wideneck.functional.distribution import slope as slope
from wideneck.functional.divergence import linear_divergence as linear_divergence
from wideneck.functional.log_prob_loss import linear_log_prob_loss as linear_log_prob_loss
from wideneck.functional.loss import linear_cross_entropy as linear_cross_entropy
from wideneck.functional.loss import (
    linear_cross_entropy_and_log_normalizer as linear_cross_entropy_and_log_normalizer,
)
from wideneck.functional.loss import z_loss as z_loss
from wideneck.functional.scores import release_workspace as release_workspace
from wideneck.functional.teacher import Teacher as Teacher
from wideneck.functional.token_outputs import TokenOutputs as TokenOutputs
from wideneck.functional.token_outputs import linear_token_outputs as linear_token_outputs
