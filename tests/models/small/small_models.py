"""Small language models of random weights for the tests."""

import torch

from wideneck import config as c
from wideneck.models.small.config import AwdLstm, Transformer
from wideneck.models.small.language_model import language_model

V = 13
NO_DROPOUT = {
    "output_dropout": 0.0,
    "hidden_dropout": 0.0,
    "input_dropout": 0.0,
    "embedding_dropout": 0.0,
    "weight_dropout": 0.0,
}
SMALL = {"embedding_size": 6, "hidden_size": 7, **NO_DROPOUT}

LLAMA = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
DECODERS = {
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2},
    "llama": {**LLAMA, "num_key_value_heads": 1},
    "gpt_neox": LLAMA,
    "opt": {
        "hidden_size": 16,
        "ffn_dim": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "word_embed_proj_dim": 8,  # as OPT-350m: the head is narrower than the model
    },
}


def awd_lstm(head=None, **options):
    """An AWD-LSTM in float64 and training mode; no dropout but that of the options."""
    torch.manual_seed(0)
    model = language_model(AwdLstm(**(SMALL | options)), head or c.Softmax(), vocab_size=V)
    with torch.no_grad():  # a bias of 0 would hide where it goes missing
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.double()


def transformer(architecture="gpt2", head=None, *, context=8, tied=True, **options):
    """A decoder in float32 and training mode; its dropouts are those of transformers."""
    torch.manual_seed(0)
    config = Transformer(
        architecture=architecture,
        context=context,
        tied=tied,
        options={**DECODERS[architecture], **options},
    )
    return language_model(config, head or c.Softmax(), vocab_size=V)


def segment(batch=3, time=5, seed=1):
    """Ids and the ids that follow them, (batch, time) each."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(V, (batch, time + 1), generator=generator)
    return ids[:, :-1], ids[:, 1:]
