"""What a memory costs: its ranking loss, a training step, a generated token.

    python -m bench memory                     everything, some 12 minutes on 2 quiet cores
    python -m bench memory ranking step        only these

Parts: ranking (beside the released loop over offsets), growth (with the length), step (training,
with and without a memory), encoder (the same of an encoder-decoder), generation (beside the model
as transformers has it).  The tables are Markdown; times are in seconds, "ratio" is the median over
rounds of the time over the reference's in the same round.  Models have random weights and the
default model's sizes, or those of BART with fewer layers.
"""

from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
import transformers as tr
from torch import Tensor

import wideneck as wn
from bench.parts import in_turns, ratio, report, run_parts, timed, verdict

PARTS = {
    "ranking": "memory_ranking.ranking",
    "growth": "memory_ranking.lengths",
    "step": "memory.step",
    "encoder": "memory.encoder_step",
    "generation": "memory.generation",
}
VOCAB_SIZE, WIDTH = 49_152, 576
LENGTH, BATCH, STEP_ROUNDS = 512, 2, 7
SOURCE, TARGET, PAIRS = 256, 64, 4
TOKENS, TOKEN_ROUNDS = 32, 9

main = partial(run_parts, "memory", PARTS)


def text(batch: int, length: int, seed: int = 0) -> Tensor:
    """(B, T) token ids by a law of Zipf's kind.

    With the exponent 1.3 some 60 % of 512 stand among those before them, as in English.
    """
    generator = torch.Generator().manual_seed(seed)
    p = 1 / (torch.arange(VOCAB_SIZE) + 2.7) ** 1.3
    return torch.multinomial(p, batch * length, True, generator=generator).view(batch, length)


def model() -> Any:
    """A Llama of the sizes of SmolLM2-135M; what it predicts does not matter for its speed."""
    torch.manual_seed(0)
    config = tr.LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=WIDTH,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    )
    config._attn_implementation = "sdpa"
    return tr.LlamaForCausalLM(config)


def encoder_decoder() -> Any:
    """Of the widths and the vocabulary of bart-base, with 2 + 2 layers in place of 6 + 6."""
    torch.manual_seed(0)
    config = tr.BartConfig(
        vocab_size=50_265,
        d_model=768,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=12,
        decoder_attention_heads=12,
        encoder_ffn_dim=3072,
        decoder_ffn_dim=3072,
    )
    config._attn_implementation = "sdpa"
    return tr.BartForConditionalGeneration(config)


def training_step(trained: Any, ids: Tensor, labels: Tensor) -> Callable[[], None]:
    """A step of AdamW."""
    optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-6)

    def run() -> None:
        trained.train()
        optimizer.zero_grad()
        trained(input_ids=ids, labels=labels, use_cache=False).loss.backward()
        optimizer.step()

    return run


def continued(generating: Any, prompt: Tensor, count: int) -> Callable[[], None]:
    """Greedy generation of `count` tokens."""
    fixed = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False}

    @torch.no_grad()
    def run() -> None:
        generating.eval().generate(prompt, attention_mask=torch.ones_like(prompt), **fixed)

    return run


def seconds_a_token(many: list[float], one: list[float]) -> list[float]:
    """From rounds of 1 + TOKENS tokens and of one."""
    return [(more - less) / TOKENS for more, less in zip(many, one, strict=True)]


def step(scale: float) -> None:
    """A training step with a memory beside the same step without one."""
    ids = text(BATCH, round(LENGTH * scale))
    sizes = f"sizes of SmolLM2-135M, batch {BATCH}, length {ids.shape[1]}"
    compare_steps(wn.attach(model(), "softmax"), model, ids, ids, sizes, 1.15)


def encoder_step(scale: float) -> None:
    """The same of a model with an encoder, whose memory is the source; `attach` takes none."""
    source, target = (text(PAIRS, round(size * scale)) for size in (SOURCE, TARGET))
    sizes = "d = 768, V = 50,265, 2 + 2 layers of BART"
    sizes = f"{sizes}, batch {PAIRS}, source {source.shape[1]}, target {target.shape[1]}"
    compare_steps(encoder_decoder(), encoder_decoder, source, target, sizes, 1.2)


def compare_steps(
    without: Any, make: Callable[[], Any], ids: Tensor, labels: Tensor, sizes: str, limit: float
) -> None:
    """A step of a model without a memory and of such models as `make` gives with one."""
    name = "without a memory"
    models = {
        name: without,
        "with a memory": wn.attach_memory(make()),
        "likelihood alone (alpha = 0)": wn.attach_memory(make(), alpha=0.0),
        "raw scores (Eq. 3)": wn.attach_memory(make(), wn.Memory.published()),
    }
    runs = {n: training_step(m, ids, labels) for n, m in models.items()}
    times = in_turns(runs, dict.fromkeys(runs, STEP_ROUNDS))
    report(
        f"{sizes}, float32, AdamW.",
        ("", "rounds", "min s", "median s", "ratio", "of minima"),
        timed(times, times[name], of=3),
        [verdict("time over that without", ratio(times["with a memory"], times[name]), limit)],
    )


def generation(scale: float) -> None:
    """A generated token with a memory beside one of the model as transformers has it."""
    ids = text(1, round(LENGTH * scale))
    name = "transformers"
    models = {name: model(), "with a memory": wn.attach_memory(model().eval())}
    runs = {(n, k): continued(m, ids, k) for n, m in models.items() for k in (1, 1 + TOKENS)}
    times = in_turns(runs, dict.fromkeys(runs, TOKEN_ROUNDS))
    each = {n: seconds_a_token(times[n, 1 + TOKENS], times[n, 1]) for n in models}
    rows = [
        [
            n,
            str(len(t)),
            f"{1000 * min(t):.2f}",
            f"{1000 * median(t):.2f}",
            f"{ratio(t, each[name]):.3f}",
            f"{median(times[n, 1]):.3f}",
        ]
        for n, t in each.items()
    ]
    report(
        f"sizes of SmolLM2-135M, {ids.shape[1]} tokens of context, {TOKENS} new ones, greedy.",
        ("", "rounds", "min ms a token", "median ms", "ratio", "s for the prompt"),
        rows,
        [verdict("time a token over transformers", ratio(each["with a memory"], each[name]), 1.25)],
    )
