"""Tiny models with a head or a memory, and a batch, for the tests of the guard."""

import torch
from attachable import attached, token_ids

import wideneck as wn
from tiny import tiny_model

IDS = token_ids()
BATCH = {"input_ids": IDS, "labels": IDS}
HEADS = [("sigsoftmax", {"shift": 0.0, "learned": True}), ("moss", {"num_components": 2})]


def model_with(head="moss", case="llama", **options):
    return attached(case, head, **options).train()


def remembering(case="llama"):
    torch.manual_seed(1)
    return wn.attach_memory(tiny_model(case)).train()
