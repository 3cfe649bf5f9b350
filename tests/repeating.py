"""A small model that has learned to repeat what it reads, for tests of what models say."""

from typing import Any

import torch
import transformers as tr

from tiny import LLAMA
from tiny_text import CHARACTERS

UNSEEN, SEEN = "~%", "aZ7"
"""Characters that no training row had, and some that training rows had."""


def repeater() -> Any:
    """Untied Llama of two layers, trained for some seconds on rows of one character.

    The rows of `UNSEEN` in its input embedding are as they were drawn, and in its output layer
    they were only ever pushed away.
    """
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 2, "hidden_size": 32, "max_position_embeddings": 512}
    # Without padding, whose input row would be one of zeros.
    config = tr.LlamaConfig(**LLAMA | sizes | {"pad_token_id": None})
    model: Any = tr.LlamaForCausalLM(config)
    seen = torch.tensor([i for i, c in enumerate(CHARACTERS) if c not in UNSEEN])
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0)
    for _ in range(100):
        ids = seen[torch.randint(len(seen), (64, 1))].expand(-1, 5)
        optimizer.zero_grad()
        model(ids, labels=ids).loss.backward()
        optimizer.step()
    return model.eval()
