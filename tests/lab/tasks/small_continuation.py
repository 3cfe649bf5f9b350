"""A tiny decoder of characters, a text and a recipe under which continuation takes a second."""

import random

import torch
import transformers as tr
from tokenizers import decoders

from tiny import GPT2, LLAMA
from tiny_text import character_tokenizer
from wideneck.data.corpus import Corpus
from wideneck.lab.tasks.continuation import Continuation
from wideneck.lab.tasks.continuation_start import Recipe, Start
from wideneck.models import load_language_model

TINY = Recipe(
    window=40,
    num_blocks=9,
    trained_layers=1,
    num_steps=6,
    batch_size=4,
    micro_batch=2,
    learning_rate=1e-2,
    learned_rate=5e-2,
    warm_up=0.2,
    weight_decay=0.1,
    num_checkpoints=3,
    num_valid=4,
    num_test=5,
    num_prompts=4,
    prompt=8,
    fewest_new=6,
    most_new=6,
    written=5,
    num_rank_rows=50,
    common_words=3,
)
WORDS = "green bottles hang upon seven garden walls while three old cats watch them fall".split()


def text(name: str, documents: int, words: int = 20) -> tuple[str, ...]:
    """Documents, each with a first word that no other split has."""
    rng = random.Random(name)
    return tuple(
        " ".join([f"{name}{n}", *(rng.choice(WORDS) for _ in range(words + n))])
        for n in range(documents)
    )


def corpus(**changes) -> Corpus:
    """Three splits."""
    splits = {"train": text("train", 6), "valid": text("valid", 4), "test": text("test", 7)}
    return Corpus(**{"name": "bottles", **splits, "sha256": "0", **changes})


def tokenizer():
    """Of characters, with an end of text."""
    made = character_tokenizer()
    made.eos_token = "\n"
    made.backend_tokenizer.decoder = decoders.Fuse()
    return made


def llama() -> tr.PreTrainedModel:
    """Three layers; equal calls give equal weights."""
    torch.manual_seed(0)
    return tr.LlamaForCausalLM(
        tr.LlamaConfig(**LLAMA | {"num_hidden_layers": 3, "tie_word_embeddings": True})
    )


def gpt2() -> tr.PreTrainedModel:
    """With dropout, whose random numbers an interrupted training must find again."""
    torch.manual_seed(0)
    return tr.GPT2LMHeadModel(tr.GPT2Config(**GPT2))


def start(recipe: Recipe = TINY, model=None, text: Corpus | None = None) -> Start:
    """What runs begin at."""
    loaded = load_language_model(model or llama(), tokenizer=tokenizer())
    return Start(loaded, text or corpus(), recipe)


def trial(objective: str = "trime_histalign", seed: int = 0, **options) -> Continuation:
    """One run."""
    return Continuation(start(**options), objective, seed)
