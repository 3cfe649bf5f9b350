"""TransformerLens: the logits of its bridge are the model's."""

import torch
from transformer_lens.model_bridge import TransformerBridge

from clients.client_models import batch, every_head, every_tie, tokenizer, with_head

IDS = batch()["input_ids"]


@every_head
@every_tie
def test_the_bridge_of_transformer_lens(shows, head, tied):
    model = with_head(head, tied).eval()
    want = model(IDS).logits
    # The name chooses its adapter; the model is ours.
    bridge = TransformerBridge.boot_transformers(
        "meta-llama/Llama-2-7b-hf", hf_model=model, tokenizer=tokenizer()
    )
    torch.testing.assert_close(bridge(IDS), want, rtol=1e-5, atol=1e-5)
    shows("TransformerBridge.boot_transformers", "right")
