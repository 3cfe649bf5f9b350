"""A memory under torch.compile: one graph, as transformers' own model is, and the same numbers."""

import pytest
import torch
from remembering import prompts, remembering

F64 = torch.float64


def explained(model, *args, **kwargs):
    torch._dynamo.reset()
    return torch._dynamo.explain(model)(*args, **kwargs).graph_break_count


@pytest.mark.parametrize("options", [{}, {"reduction": "sum"}, {"mixture": "linear"}], ids=str)
def test_a_step_of_training_is_one_graph(options):
    model, ids = remembering("llama", **options).train(), prompts()["input_ids"]
    assert explained(model, ids, labels=ids) == 0


def test_evaluation_and_decoding_are_one_graph():
    model, ids = remembering("llama"), prompts()["input_ids"]
    assert explained(model, ids, labels=ids, use_cache=False) == 0
    with torch.no_grad():
        cache = model(ids, use_cache=True).past_key_values
        assert explained(model, ids[:, :1], past_key_values=cache, use_cache=True) == 0


@pytest.mark.parametrize("options", [{}, {"reduction": "sum", "rank_over": "all"}], ids=str)
def test_a_graph_has_the_loss_and_the_gradients_of_the_model(options):
    ids = prompts()["input_ids"]
    plain, compiled = (remembering("llama", F64, **options).train() for _ in range(2))
    labels = ids.masked_fill(torch.arange(8) % 3 == 0, -100)
    want = plain(ids, labels=labels).loss
    want.backward()
    torch._dynamo.reset()
    loss = torch.compile(compiled, backend="aot_eager")(ids, labels=labels).loss
    loss.backward()
    torch.testing.assert_close(loss, want)
    for ours, theirs in zip(compiled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    one, other = (m.cache_memory.statistics.take(True) for m in (plain, compiled))
    assert one == pytest.approx(other)
