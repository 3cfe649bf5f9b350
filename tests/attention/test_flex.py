"""FlexAttention stays a kernel: compiled for every kind of call, trained after generating."""

import pytest
import torch

from wideneck.attention import flex


@pytest.fixture
def compiled(monkeypatch):
    """Graphs that `run` was compiled to, by a compiler that takes no time."""
    graphs = []

    def keep(graph, _inputs):
        graphs.append(graph)
        return graph.forward

    function = torch.compile(flex.run, backend=keep)
    monkeypatch.setattr(flex, "_compiled", lambda: function)
    yield graphs
    torch.compiler.reset()


def test_kinds_of_calls_past_a_compiler_s_limit_are_compiled_too(compiled):
    """There, at 8 unless set, PyTorch would form all scores, after one warning."""
    query, key = torch.randn(1, 2, 128, 16), torch.randn(1, 1, 128, 16)
    row, causal = torch.zeros(1, 2, 128), flex._causal_blocks(128, torch.device("cpu"))
    with torch._dynamo.config.patch(recompile_limit=1):
        for number, kind in enumerate(("sigmoid", "relu", "topk")):
            flex._kernel(kind, query, key, key, None, row, causal, 0.3)
            assert len(compiled) == number + 1


def test_blocks_first_made_while_generating_serve_a_training_step_too():
    flex._causal_blocks.cache_clear()
    with torch.inference_mode():
        flex._causal_blocks(384, torch.device("cpu"))
    assert not flex._causal_blocks(384, torch.device("cpu")).kv_indices.is_inference()
