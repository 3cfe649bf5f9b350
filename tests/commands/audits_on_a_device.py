"""Prints the reports of tiny models on the CPU and on a pretended accelerator, one JSON a line."""

import json
import sys
from pathlib import Path

import torch
import transformers as tr

import wideneck as wn
from pretended import DEVICE, moved
from tiny import LLAMA
from tiny_text import character_tokenizer

SECTIONS = ("head", "output", "attention", "memory")


def model(kind):
    torch.manual_seed(0)
    sizes = LLAMA | {"num_hidden_layers": 2, "tie_word_embeddings": kind == "tied"}
    made = tr.LlamaForCausalLM(tr.LlamaConfig(**sizes)).eval()
    head = made.get_output_embeddings().weight
    with torch.no_grad():
        if kind == "degenerate":  # rows that no self-test tells apart, ties, and a mixture of rows
            head[40:80] = 0.02 * torch.randn(40, head.shape[1]) + head[:1]
            head[90] = head[91]
            head[5] = (head[6] + head[7]) / 2
    if kind == "bias":
        made.lm_head = torch.nn.Linear(head.shape[1], head.shape[0])
        made.lm_head.weight.data[40:80] = 0.02 * torch.randn(40, head.shape[1])
    if kind == "mixture":
        made = wn.attach(made, "mos", num_components=2)
    return made


def report(kind, made, text):
    settings = wn.AttentionSettings(
        context=32, num_windows=2, sizes=(1, 5), critical_up_to=4, ablation_context=16
    )
    sections = {"mixture": ("output",), "bias": ("head",)}.get(kind, SECTIONS)
    return wn.audit(
        made,
        text,
        sections,
        tokenizer=character_tokenizer(bos=True),
        num_tokens=256,
        attention=settings if "attention" in sections else None,
        normalizers=["sink"] if "attention" in sections else (),
    ).to_dict()


if __name__ == "__main__":
    for kind in sys.argv[2:]:
        on_both = [model(kind), moved(model(kind))]
        found = [report(kind, made, Path(sys.argv[1])) for made in on_both]
        assert found[1]["provenance"]["device"] == str(DEVICE), found[1]["provenance"]
        print(json.dumps(found))
