"""nnsight: the logits that it sees are the model's."""

import torch
from nnsight import LanguageModel

from clients.client_models import batch, every_head, every_tie, tokenizer, with_head, with_memory

IDS = batch()["input_ids"]


def traced(model):
    with model.trace(IDS):
        out = model.output.save()
    return out.logits


@every_head
@every_tie
def test_nnsight_on_a_model_and_on_its_folder(shows, tmp_path, head, tied):
    model = with_head(head, tied).eval()
    want = model(IDS).logits
    torch.testing.assert_close(traced(LanguageModel(model, tokenizer=tokenizer())), want)
    model.save_pretrained(tmp_path)
    of_folder = LanguageModel(str(tmp_path), tokenizer=tokenizer())  # built on meta, then loaded
    torch.testing.assert_close(traced(of_folder), want)
    shows("LanguageModel of a model or a folder", "right")


def test_nnsight_with_a_memory(shows):
    model = with_memory().eval()
    want = model(IDS).logits
    torch.testing.assert_close(traced(LanguageModel(model, tokenizer=tokenizer())), want)
    shows("LanguageModel with a memory", "right")
