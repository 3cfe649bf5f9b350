"""accelerate, as it is installed: what it puts around a model leaves our head in place."""

import copy

import pytest
import torch
from accelerate import Accelerator

import wideneck as wn
from tiny import V, tiny_model


@pytest.mark.parametrize("head", ["sigsoftmax", "moss", "softmax"])
def test_bf16_autocast_wraps_our_forward_and_is_taken_off_again(shows, head):
    torch.manual_seed(0)
    model = wn.attach(tiny_model("llama"), head)
    ids = torch.randint(V, (2, 9))
    plain = copy.deepcopy(model)
    accelerator = Accelerator(mixed_precision="bf16", cpu=True)
    prepared = accelerator.prepare_model(model)
    with torch.autocast("cpu", torch.bfloat16):
        expected = plain(input_ids=ids, labels=ids).loss
    torch.testing.assert_close(prepared(input_ids=ids, labels=ids).loss, expected)
    told = wn.token_outputs(prepared, input_ids=ids, labels=ids)
    torch.testing.assert_close(-told.log_prob.mean(), expected)
    unwrapped = accelerator.unwrap_model(prepared, keep_fp32_wrapper=False)
    expected = plain(input_ids=ids, labels=ids).loss
    torch.testing.assert_close(unwrapped(input_ids=ids, labels=ids).loss, expected)
    shows("mixed_precision bf16, unwrap_model", "right")
