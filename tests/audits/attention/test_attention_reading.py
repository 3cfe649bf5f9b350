"""The losses of a window, from what enters the head, against logits that are written out."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from tiny import tiny_model
from wideneck.audits.attention.reading import Reader
from wideneck.errors import WideneckError
from wideneck.models import HeadWeights, LogitMap, measure_logit_map, read_head


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("cap", [None, 0.8])
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_the_map_is_applied_to_the_logits_bias_included(scale, cap, has_bias):
    torch.manual_seed(0)
    head = torch.nn.Linear(4, 7, bias=has_bias)
    hidden, targets = torch.randn(2, 3, 4), torch.randint(7, (2, 3))
    model = SimpleNamespace(get_output_embeddings=lambda: head)
    bias = head.bias.detach() if has_bias else None
    known = {"name": "", "tied": False, "tying": "", "tokens": None, "model": ""}
    read = HeadWeights.of(head.weight.detach(), bias, **known)
    found = Reader(model, LogitMap("any", scale, cap), read)._nll(hidden, targets)
    logits = scale * head(hidden).double()
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
    expected = F.cross_entropy(logits.mT, targets, reduction="none")
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def failing(*_args, **_kwargs):
    raise ZeroDivisionError("planted")


def test_an_error_of_the_audit_s_own_attention_is_not_put_down_to_the_model():
    model, ids = tiny_model("llama").eval(), torch.arange(9)[None]
    reader = Reader(model, measure_logit_map(model), read_head(model))
    with pytest.raises(ZeroDivisionError, match=r"^planted$"):
        reader.losses(ids, ids[:, 1:], failing)
    model.model.layers[0].mlp.forward = failing
    with pytest.raises(WideneckError, match=r"LlamaForCausalLM does not run .*planted"):
        reader.losses(ids, ids[:, 1:])
