"""Whole models on an accelerator: an audit of 8 billion parameters, and layers of 70 billion.

Weights are random, drawn on the device, so that nothing is downloaded: the times are those of the
shape, and no number of such a report says anything of a language model.
"""

import time
from collections.abc import Iterator
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import wideneck as wn
from bench.gpu_loss import wait

Row = dict[str, Any]
LLAMA_8B = {
    "vocab_size": 128_256,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
LLAMA_70B = LLAMA_8B | {
    "hidden_size": 8192,
    "intermediate_size": 28_672,
    "num_hidden_layers": 8,  # of 80
    "num_attention_heads": 64,
}
TINY = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
SECONDS = 60
"""The most that the whole audit of 8 billion parameters may take."""
SECTIONS = ("head", "output", "attention")


def tokenizer() -> Any:
    """One token a byte."""
    vocab = {char: i for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made)


def _model(shape: dict[str, Any], device: torch.device, dtype: torch.dtype) -> Any:
    config = transformers.LlamaConfig(**shape, max_position_embeddings=8192)
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            return transformers.LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)


def audit(device: torch.device, *, tiny: bool) -> Iterator[Row]:
    """Head, output and attention of a model of 8 billion parameters, step by step."""
    yield _agreement(device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    start = time.perf_counter()
    model = _model(TINY if tiny else LLAMA_8B, device, dtype)
    wait(device)
    yield {"what": "draw the weights", "s": time.perf_counter() - start}
    start = time.perf_counter()
    tokens = 256 if tiny else 4 * LLAMA_8B["hidden_size"]
    report = wn.audit(model, tokenizer=tokenizer(), sections=SECTIONS, num_tokens=tokens)
    wait(device)
    total = time.perf_counter() - start
    for step, seconds in report.to_dict()["provenance"]["seconds"].items():
        yield {"what": step, "s": float(seconds)}
    row: Row = {"what": "the whole audit", "s": total}
    if not tiny:
        row["limit"] = f"{SECONDS} s: {'met' if total <= SECONDS else 'MISSED'}"
    if device.type == "cuda":
        row["peak GB"] = torch.cuda.max_memory_allocated(device) / 1e9
    yield row


def _agreement(device: torch.device) -> Row:
    """The largest relative difference of any number from the same audit on the CPU, float32."""
    reports = [
        wn.audit(
            _model(TINY, torch.device("cpu"), torch.float32).to(where),
            tokenizer=tokenizer(),
            sections=SECTIONS,
            num_tokens=256,
        ).to_dict()
        for where in (torch.device("cpu"), device)
    ]
    one, other = (dict(_numbers(report)) for report in reports)
    apart = {
        name: abs(value - other[name]) / max(abs(value), 1e-6)
        for name, value in one.items()
        if name in other
    }
    worst = max(apart, key=lambda name: apart[name])
    return {"what": f"a small model, to the CPU: {worst}", "apart": apart[worst]}


def _numbers(found: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a report by place, but those of where and when it was made."""
    if isinstance(found, dict):
        for key, value in found.items():
            if key != "provenance":
                yield from _numbers(value, f"{name}.{key}")
    elif isinstance(found, list):
        for i, value in enumerate(found):
            yield from _numbers(value, f"{name}[{i}]")
    elif isinstance(found, float):
        yield name, found


def layers(device: torch.device, *, tiny: bool) -> Iterator[Row]:
    """Seconds a layer of a model of 70 billion parameters, from 8 of its 80."""
    shape = TINY if tiny else LLAMA_70B
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    model = _model(shape, device, dtype)
    ids = torch.randint(256, (8, 32 if tiny else 512), device=device)
    times = []
    with torch.no_grad():
        for _ in range(3):
            start = time.perf_counter()
            model.model(ids, use_cache=False)
            wait(device)
            times.append(time.perf_counter() - start)
    number = shape["num_hidden_layers"]
    yield {"what": f"{number} layers, {ids.numel():,} tokens", "s": min(times)}
    yield {"what": "a layer", "s": min(times) / number}
    if not tiny:  # the share of the head is not in it
        yield {"what": "80 layers, computed", "s": 80 * min(times) / number}
