"""How many tokens a model takes is what it runs on: one more than that, and it breaks."""

import pytest
import torch
import transformers as tr

from tiny import tiny_model
from wideneck.models.positions import max_positions

SMALL = {
    "vocab_size": 96,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 1,
    "is_decoder": True,
}
MPT = {"vocab_size": 96, "d_model": 16, "n_layers": 1, "n_heads": 2, "max_seq_len": 64}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (tr.RobertaConfig(**SMALL), 62),
        (tr.XLMRobertaConfig(**SMALL), 62),
        (tr.BertConfig(**SMALL), 64),
        (tr.MptConfig(**MPT), 64),
        (tr.BloomConfig(vocab_size=96, hidden_size=16, n_layer=1, n_head=2), None),
    ],
    ids=lambda value: getattr(value, "model_type", str(value)),
)
def test_positions_are_those_that_a_model_can_read(config, expected):
    model = tr.AutoModelForCausalLM.from_config(config).eval()
    assert max_positions(model) == expected
    if expected is None:
        return
    ids = torch.full((1, expected + 1), 5)
    with torch.no_grad():
        model(input_ids=ids[:, :-1])
        with pytest.raises((RuntimeError, IndexError)):
            model(input_ids=ids)


@pytest.mark.parametrize("case", ["gpt2", "opt", "llama", "gpt-neox"])
def test_tables_with_rows_in_front_are_counted_without_them(case):
    assert max_positions(tiny_model(case)) == 64
