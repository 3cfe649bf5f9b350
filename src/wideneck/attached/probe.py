"""The range of a model's logits, from one pass over random tokens.

Where a head's activation bends is relative to the logits, so a start at the model's own
predictions needs to know where they lie.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wideneck.errors import WideneckError
from wideneck.models import ask, evaluating
from wideneck.models.positions import max_positions

NUM_SEQUENCES = 4
NUM_TOKENS = 64
"""Tokens of a sequence, or as many as the model has positions."""


@dataclass(frozen=True, kw_only=True)
class LogitRange:
    """Where the logits of a model lie on 256 random tokens."""

    lowest: float
    highest: float
    mean: float
    """Weighted by the model's own probabilities, sum_j p_j z_j, over all positions."""

    @property
    def margin(self) -> float:
        """How far beyond the range an activation starts to bend.

        5 for e^-5 < 0.01, and half the range for what the probe has not seen: it finds -17 to
        34 in SmolLM2-135M-Instruct, of which 2,048 tokens of English take -29 to 44.
        """
        return 5 + 0.5 * (self.highest - self.lowest)


@torch.no_grad()
def probe_logits(model: Any) -> LogitRange:
    """Run the model in eval mode on random token ids; the global random state is left alone."""
    ids = random_ids(model)
    with evaluating(model):
        rows = [_row(model, sequence) for sequence in ids]
    logits = torch.cat(rows)
    if not logits.isfinite().all():
        raise WideneckError(
            f"{type(model).__name__} gives logits that are not finite on random tokens, so no "
            "head can start from its predictions."
        )
    return LogitRange(
        lowest=float(logits[:, 0].min()),
        highest=float(logits[:, 1].max()),
        mean=float(logits[:, 2].mean()),
    )


def random_ids(model: Any) -> Tensor:
    """(4, 64) random token ids on the model's device, or as long as the model has positions."""
    num_tokens = min(NUM_TOKENS, max_positions(model) or NUM_TOKENS)
    embedding = model.get_input_embeddings().weight
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(embedding.shape[0], (NUM_SEQUENCES, num_tokens), generator=generator)
    return ids.to(embedding.device)


def _row(model: Any, ids: Tensor) -> Tensor:
    """(T, 3): lowest, highest and mean logit of every position of one sequence."""
    logits = ask(model, input_ids=ids[None], use_cache=False).logits[0].float()
    mean = (logits.softmax(-1) * logits).sum(-1)
    return torch.stack([logits.amin(-1), logits.amax(-1), mean], dim=-1).cpu()
