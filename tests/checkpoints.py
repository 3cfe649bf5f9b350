"""Checkpoints on disk for the tests of readers: saved, edited, compared."""

import json

import torch
from safetensors.torch import load_file, save_file


def saved(model, folder, **how):
    model.save_pretrained(folder, **how)
    return folder


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(folder, change):
    """Rewrite model.safetensors through a function of its dict."""
    path = folder / "model.safetensors"
    tensors = {name: value.clone() for name, value in load_file(path).items()}
    save_file(change(tensors) or tensors, path)


def without(name):
    return lambda tensors: {other: value for other, value in tensors.items() if other != name}


def assert_is_head_of(head, model):
    out = model.get_output_embeddings()
    assert torch.equal(head.weight, out.weight)
    assert head.weight.dtype == out.weight.dtype
    if out.bias is None:
        assert head.bias is None
    else:
        assert torch.equal(head.bias, out.bias)
