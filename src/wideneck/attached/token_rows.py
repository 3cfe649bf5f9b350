"""The vectors of tokens, by a call of the embedding itself.

FSDP2, ZeRO-3 and the offloading of accelerate put a module's weights in place for its own call
only; read from outside they are a shard, empty, or whatever was left there.
"""

from typing import Any, final

import torch
from torch import Tensor

from wideneck.models import evaluating


@final
class TokenRows:
    """What an embedding gives for the tokens of a batch; for the ids among them, (..., D).

    A factor that the embedding multiplies by, as Gemma's and BART's do, is in the rows: cosines
    do not see it.  Noise that is added to embeddings in training (NEFTune) is not.

    To be made before the model runs: FSDP2 counts, in a group of modules, which have run.
    """

    @torch.no_grad()
    def __init__(self, embedding: Any, ids: Tensor):
        flat = ids.flatten()
        # A graph has no room for a number of rows that depends on the tokens.
        self.ids = flat.sort()[0] if torch.compiler.is_compiling() else flat.unique()
        with evaluating(embedding):
            self.rows = embedding(self.ids)

    def __call__(self, ids: Tensor) -> Tensor:
        """(..., D), for ids that were given."""
        at = torch.searchsorted(self.ids, ids.to(self.ids.device))
        return self.rows[at.to(self.rows.device)].to(ids.device)
