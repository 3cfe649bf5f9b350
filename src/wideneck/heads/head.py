"""The interface of output layers, and the layer with one output matrix and no projection.

Shapes: D hidden_size, E embedding_size (D, but for a low_rank and some mixtures), V vocab_size, K
components; leading dimensions are free.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wideneck import config as c
from wideneck import sizes
from wideneck.errors import WideneckError
from wideneck.functional.distribution import log_mixture, log_prob, widened
from wideneck.functional.loss import linear_cross_entropy_and_log_normalizer
from wideneck.functional.token_outputs import TokenOutputs, linear_token_outputs


@final
class LearnedActivation(nn.Module):
    """An activation whose learned numbers, `Activation.raw`, are parameters in float32.

    A single number has shape (1,): FSDP2 shards no scalars.
    """

    def __init__(self, config: c.Activation, device: Any = None):
        super().__init__()
        self.config = config
        self.starts = {name: start for name, (_, start) in config.raw().items()}
        for name, (count, _) in config.raw().items():
            empty = torch.empty(count, device=device, dtype=torch.float32)
            self.register_parameter(name, nn.Parameter(empty))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """The config's numbers."""
        for name, start in self.starts.items():
            getattr(self, name).fill_(start)

    def forward(self) -> c.Activation:
        """The activation with the present numbers, for `linear_cross_entropy` and `log_prob`."""
        if not self.starts:
            return self.config
        return self.config.learning({name: getattr(self, name) for name in self.starts})


class Head(nn.Module, ABC):
    """An output layer that owns its loss.

    The loss lives on the head so that a fused implementation reads the weights inside the
    module's own call, the only place where FSDP2 gathers them (`register_fsdp_forward_method`
    makes `nll` such a call).

    Args:
        config: what to build.
        activation: the activation of its scores.
        hidden_size: D.
        vocab_size: V.
        bias: whether every token has a bias.
        logit_scale: constant factor of all scores, where the model has one.
    """

    config: c.HeadConfig
    embedding_size: int
    """E, columns of `weight` (V, E): the width of what meets it, and of an embedding tied to it."""

    def __init__(
        self,
        config: c.HeadConfig,
        activation: c.Activation,
        *,
        hidden_size: int,
        vocab_size: int,
        bias: bool,
        logit_scale: float,
        device: Any,
        dtype: Any,
    ):
        super().__init__()
        self.config = config
        self.hidden_size, self.vocab_size, self.logit_scale = hidden_size, vocab_size, logit_scale
        self.embedding_size = sizes.embedding_size(config, hidden_size)
        self.weight = nn.Parameter(
            torch.empty(vocab_size, self.embedding_size, device=device, dtype=dtype)
        )
        self.bias = (
            nn.Parameter(torch.empty(vocab_size, device=device, dtype=dtype)) if bias else None
        )
        self.activation = LearnedActivation(activation, device)

    def reset_parameters(self) -> None:
        """As `nn.Linear`: uniform in +-1/sqrt(E); biases 0; its parts as they start."""
        nn.init.uniform_(self.weight, -(self.embedding_size**-0.5), self.embedding_size**-0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        for part in self.children():
            part.reset_parameters()  # pyrefly: ignore[not-callable]

    @abstractmethod
    def contexts(self, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
        """The vectors that meet the output matrix, and the logarithms of their weights.

        Args:
            hidden: (..., D).

        Returns:
            (..., E) and None, or for a mixture (..., K, E) and (..., K).
        """

    @property
    def rank_bound(self) -> int:
        """Largest rank the matrix of log-probabilities can have, whatever the contexts."""
        return sizes.rank_bound(
            self.config, self.hidden_size, self.vocab_size, bias=self.bias is not None
        )

    @property
    def cost(self) -> str:
        """What a training step costs, in words."""
        return self.config.cost

    def log_probs(self, hidden: Tensor) -> Tensor:
        """Log-probabilities in nats, at least float32.

        Args:
            hidden: (..., D).

        Returns:
            (..., V).  Holds all of them, K times for a mixture.
        """
        contexts, log_prior = self._contexts(hidden)
        logits = F.linear(contexts, self.weight, self.bias)
        if self.logit_scale != 1:
            logits = logits.to(widened(logits)) * self.logit_scale
        result = log_prob(logits, self.activation())
        return result if log_prior is None else log_mixture(log_prior.to(result.dtype), result)

    def nll(
        self,
        hidden: Tensor,
        target: Tensor,
        *,
        weight: Tensor | None = None,
        target_ids: Tensor | None = None,
        reduction: str = "none",
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        chunk_size: int | None = None,
    ) -> Tensor:
        """Negative log-likelihood in nats, fused: never holds the scores of all tokens.

        Args:
            hidden: (..., D).
            target: (...), token ids; or class probabilities (..., V).
            weight: (V,), what each class counts.
            target_ids: (..., M), the tokens whose probabilities `target` (..., M) holds.
            reduction: "none", "mean" or "sum"; the last two cost a quarter less.
            ignore_index: the target that counts nothing.
            label_smoothing, z_loss: see `linear_cross_entropy`.
            chunk_size: tokens at a time; None chooses.
        """
        loss, _ = self.nll_and_log_normalizer(
            hidden,
            target,
            weight=weight,
            target_ids=target_ids,
            reduction=reduction,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            z_loss=z_loss,
            chunk_size=chunk_size,
        )
        return loss

    def nll_and_log_normalizer(
        self,
        hidden: Tensor,
        target: Tensor,
        *,
        reduction: str = "none",
        **options: Any,
    ) -> tuple[Tensor, Tensor]:
        """`nll`, and log sum_j exp(f(z_j)): (...), or of every component of a mixture (..., K)."""
        contexts, log_prior = self._contexts(hidden)
        return linear_cross_entropy_and_log_normalizer(
            contexts,
            self.weight,
            target,
            linear_bias=self.bias,
            activation=self.activation(),
            log_prior=log_prior,
            logit_scale=self.logit_scale,
            reduction=reduction,
            **options,
        )

    def token_outputs(
        self,
        hidden: Tensor,
        target: Tensor,
        outputs: Sequence[str] = ("log_prob",),
        *,
        temperature: float | Tensor = 1.0,
        ignore_index: int = -100,
        chunk_size: int | None = None,
    ) -> TokenOutputs:
        """Log-probability, entropy and more of every target, fused as `nll` is.

        Args:
            hidden: (..., D).
            target: (...), token ids; target[t] is predicted by hidden[t].
            outputs: see `wideneck.functional.linear_token_outputs`.
            temperature: of the distribution; a number, or one that broadcasts to `target`.
            ignore_index: the target that counts nothing.
            chunk_size: tokens at a time; None chooses.

        Returns:
            The fields that were asked for, in nats, of the shape of `target`.
        """
        contexts, log_prior = self._contexts(hidden)
        return linear_token_outputs(
            contexts,
            self.weight,
            target,
            linear_bias=self.bias,
            activation=self.activation(),
            log_prior=log_prior,
            logit_scale=self.logit_scale,
            outputs=outputs,
            temperature=temperature,
            ignore_index=ignore_index,
            chunk_size=chunk_size,
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """`log_probs`: in the place of a model's output layer, its logits are normalized."""
        return self.log_probs(hidden)

    def extra_repr(self) -> str:
        """Name and shapes."""
        name = c.name_of(self.config)
        text = f"{name}, hidden_size={self.hidden_size}, vocab_size={self.vocab_size}"
        if self.embedding_size == self.hidden_size:
            return text
        return f"{text}, embedding_size={self.embedding_size}"

    def scaled_contexts(self, hidden: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """`contexts` and the bias, with the constant factor of all scores; then the log-prior.

        At least float32 where there is such a factor, whose product with narrower contexts would be
        rounded.
        """
        contexts, log_prior = self._contexts(hidden)
        if self.logit_scale == 1:
            return contexts, self.bias, log_prior
        dtype = widened(contexts, self.weight)
        bias = None if self.bias is None else self.bias.to(dtype) * self.logit_scale
        return contexts.to(dtype) * self.logit_scale, bias, log_prior

    def _contexts(self, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
        """`contexts` of states of the right width."""
        if hidden.shape[-1] != self.hidden_size:
            raise WideneckError(
                f"{type(self).__name__} was built for hidden size {self.hidden_size}, got hidden "
                f"states of shape {tuple(hidden.shape)}."
            )
        return self.contexts(hidden)


@final
class LinearHead(Head):
    """One output matrix on the hidden state itself, under any activation."""

    def __init__(self, config: c.Activation, **sizes: Any):
        super().__init__(config, config, **sizes)
        self.reset_parameters()

    def contexts(self, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
        return hidden, None
