"""The vectors of tokens, by a call of the embedding itself.

FSDP2, ZeRO-3 and the offloading of accelerate put a module's weights in place for its own call
only; read from outside they are a shard, empty, or whatever was left there.
"""

from typing import Any

import torch
from torch import Tensor

from wideneck.memory.ranks import Rows
from wideneck.models import evaluating


@torch.no_grad()
def token_rows(embedding: Any, ids: Tensor) -> Rows:
    """What an embedding gives for the tokens `ids` of a batch.

    A factor that the embedding multiplies by, as Gemma's and BART's do, is in the rows: cosines
    do not see it.  Noise that is added to embeddings in training (NEFTune) is not.

    To be called before the model runs: FSDP2 counts, in a group of modules, which have run.
    """
    if torch.compiler.is_compiling():
        # A graph has no room for a number of rows that depends on the tokens.
        ids = ids.flatten().sort()[0]
        return Rows(ids, embedding(ids))
    ids = ids.unique()
    with evaluating(embedding):
        return Rows(ids, embedding(ids))
