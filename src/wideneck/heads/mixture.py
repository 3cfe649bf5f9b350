"""Mixtures over one output matrix (Yang, Dai, Salakhutdinov & Cohen, ICLR 2018).

Component k sees h_k = tanh(W_k h + b_k), of width E (D unless told), with weight
pi = softmax(W_pi h).  Mixing the
distributions (MoS, MoSS) lifts the rank bound; mixing the contexts before one softmax (MoC)
does not.  With projection "residual", h_k = h + U_k h and U_k = 0 at the start: the head then
starts as its activation on h itself, whatever pi is, and pi, random, tells the components'
gradients apart from the first step on.
"""

from typing import Any, final

import torch
from torch import Tensor, nn

from wideneck import config as c
from wideneck.heads.head import Head


@final
class Projections(nn.Module):
    """h (..., D) to K contexts (..., K, E) and the logarithms of their weights (..., K)."""

    def __init__(
        self,
        config: c.MoC | c.Mixture,
        hidden_size: int,
        embedding_size: int,
        device: Any,
        dtype: Any,
    ):
        super().__init__()
        self.config, self.embedding_size = config, embedding_size
        K, tanh = config.num_components, config.projection == "tanh"
        place = {"device": device, "dtype": dtype}
        self.prior = nn.Linear(hidden_size, K, bias=False, **place)
        self.latent = nn.Linear(hidden_size, K * embedding_size, bias=tanh, **place)

    def reset_parameters(self) -> None:
        """As `nn.Linear`, but U = 0 for the residual projection."""
        self.prior.reset_parameters()
        self.latent.reset_parameters()
        if self.config.projection == "residual":
            nn.init.zeros_(self.latent.weight)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        K = self.config.num_components
        log_prior = self.prior(hidden)
        log_prior = log_prior.log_softmax(
            -1, dtype=torch.promote_types(log_prior.dtype, torch.float32)
        )
        latent = self.latent(hidden).unflatten(-1, (K, self.embedding_size))
        if self.config.projection == "tanh":
            contexts = latent.tanh()
        else:
            contexts = hidden.unsqueeze(-2) + latent
        return self._locked_dropout(contexts), log_prior

    def _locked_dropout(self, contexts: Tensor) -> Tensor:
        """One mask for all positions of a sequence: contexts (batch, time, K, E) or (N, K, E)."""
        rate = self.config.dropout
        if not self.training or rate == 0:
            return contexts
        shape = list(contexts.shape)
        if len(shape) > 3:
            shape[-3] = 1
        keep = torch.rand(shape, device=contexts.device) >= rate
        return contexts * (keep.to(contexts.dtype) / (1 - rate))  # one pass over the contexts


class ProjectedHead(Head):
    """A head whose contexts are projections of the hidden state."""

    def __init__(self, config: c.MoC | c.Mixture, activation: c.Activation, **sizes: Any):
        super().__init__(config, activation, **sizes)
        self.projections = Projections(
            config, self.hidden_size, self.embedding_size, sizes.get("device"), sizes.get("dtype")
        )
        self.reset_parameters()


@final
class MixtureHead(ProjectedHead):
    """sum_k pi_k p_k with p_k of any activation: MoS, MoSS and the rest."""

    def __init__(self, config: c.Mixture, **sizes: Any):
        super().__init__(config, config.activation, **sizes)

    def contexts(self, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.projections(hidden)


@final
class MoCHead(ProjectedHead):
    """softmax(W sum_k pi_k h_k): the mixture that cannot break the bottleneck."""

    def __init__(self, config: c.MoC, **sizes: Any):
        super().__init__(config, c.Softmax(), **sizes)

    def contexts(self, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
        contexts, log_prior = self.projections(hidden)
        return (log_prior.exp().unsqueeze(-1) * contexts).sum(-2).to(hidden.dtype), None
