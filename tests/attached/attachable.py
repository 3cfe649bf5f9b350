"""What the tests of attached heads share: which heads go on which tiny model, and inputs."""

import torch

import wideneck as wn
from tiny import CASES, tiny_model
from tiny_text import character_tokenizer
from wideneck.config import HEADS
from wideneck.data import Text

CAPPED = [name for name, (_, logit_map) in CASES.items() if logit_map.cap is not None]
PLAIN = [name for name in CASES if name not in CAPPED]
ON_PLAIN = [name for name in HEADS if name not in ("relu", "softcap")]
ON_CAPPED = ["softmax", "softcap", "mos"]
BENT = ("sigsoftmax", "sigmoid", "moss")
"""Heads that start near the softmax, not on it."""

PAIRS = [(case, head) for case in PLAIN for head in ON_PLAIN]
PAIRS += [(case, head) for case in CAPPED for head in ON_CAPPED]
SOME_PAIRS = [("llama-tied", head) for head in ON_PLAIN if head != "moss"]
SOME_PAIRS += [(case, "moss") for case in PLAIN] + [("gemma2-low-cap", "mos")]
"""Every head and every architecture once."""


def token_ids(seed: int = 1, shape: tuple[int, int] = (2, 12)) -> torch.Tensor:
    # From 3 on, so that no padding or end-of-sequence token is among them.
    return torch.randint(3, 96, shape, generator=torch.Generator().manual_seed(seed))


def attached(case: str, head, **options):
    torch.manual_seed(1)
    if head == "low_rank":  # of full rank, which predicts what the model does
        options = {"rank": 1.0, **fitting_text(), **options}
    return wn.attach(tiny_model(case), head, **options)


def fitting_text(num_tokens: int = 256):
    """What a low_rank of a tiny model is fitted on."""
    documents = [f"{k} green bottles, hanging on wall {k * k}!\n" * 8 for k in range(12)]
    text = Text(name="bottles", documents=documents, sha256="0" * 64)
    return {"text": text, "tokenizer": character_tokenizer(), "num_tokens": num_tokens}


def shaken(model):
    """Every parameter moved, so that a head no longer is where it started."""
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data.add_(0.05 * noise.to(parameter.dtype))
    return model
