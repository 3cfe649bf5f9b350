"""The tiny models on which clients are tried: each head on a Llama, tied and untied."""

import pytest
import torch
import transformers as tr
from tokenizers import Tokenizer, models

import wideneck as wn

V, D = 61, 16
HEADS = {
    "softmax": ("softmax", {}),
    "sigsoftmax": ("sigsoftmax", {"shift": 0.0, "learned": True}),
    "moss": ("moss", {"num_components": 2}),
}
every_head = pytest.mark.parametrize("head", HEADS)
every_tie = pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])


def llama(tied=False):
    torch.manual_seed(0)
    config = tr.LlamaConfig(
        vocab_size=V,
        hidden_size=D,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    return tr.LlamaForCausalLM(config)


def with_head(head, tied=False):
    name, options = HEADS[head]
    model = wn.attach(llama(tied), name, **options)
    generator = torch.Generator().manual_seed(1)
    for part in (model.lm_head, model.model.norm):  # away from where a head starts
        for parameter in part.parameters():
            parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def with_memory(tied=False):
    return wn.attach_memory(llama(tied))


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, V, (2, 9), generator=generator)
    labels = ids.clone()
    labels[0, :4] = -100  # a prompt
    return {"input_ids": ids, "labels": labels}


def loss_of_the_head(model, inputs):
    """The mean of `head.nll` over the targets, from the hidden states of the model."""
    hidden = model.model(inputs["input_ids"]).last_hidden_state[:, :-1]
    target = inputs["labels"][:, 1:]
    return model.lm_head.nll(hidden, target, reduction="mean")


def gradients(model, loss):
    """Of every parameter, by name."""
    model.zero_grad()
    loss.backward()
    return {n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}


def assert_same_gradients(have, want):
    assert have.keys() == want.keys()
    for name in want:
        torch.testing.assert_close(have[name], want[name], rtol=1e-5, atol=1e-6, msg=name)


def tokenizer():
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(61)}, unk_token="w0"))
    return tr.PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w1", pad_token="w2")
