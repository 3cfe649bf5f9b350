"""Which tokens share a chunk, and the memory that all chunks share.

Sizes are those of tensors of the device "meta", which have a shape and no numbers.
"""

import threading

import pytest
import torch

import wideneck as wn
from wideneck.functional.scores import CHUNK_SCORES, Scores, workspace
from wideneck.functional.shard import WHOLE, Shard

CPU = torch.device("cpu")


def chunks(num_tokens, vocab_size, *, K=1, shard=WHOLE, chunk_size=None, device="meta", kept=None):
    X = torch.empty(num_tokens, K, 1, device=device)
    W = torch.empty(vocab_size, 1, device=device)
    kept = torch.ones(num_tokens, dtype=torch.bool) if kept is None else kept
    return Scores(X, W, None, kept, shard, chunk_size)


@pytest.mark.parametrize(
    ("vocab_size", "most"),
    [(10, 4096), (2**14, 4096), (2**15, 2048), (2**17, 512), (2**18, 256), (2**20, 256)],
)
def test_a_chunk_holds_2_to_the_26_scores_at_most_but_never_fewer_than_256_rows(vocab_size, most):
    assert most in (256, 4096) or most * vocab_size == CHUNK_SCORES
    assert chunks(most, vocab_size).size == most
    assert chunks(most + 1, vocab_size).size == -(-(most + 1) // 2)


def test_on_a_cpu_a_chunk_has_1024_rows_at_most():
    assert chunks(1024, 3, device="cpu").size == 1024
    assert chunks(1025, 3, device="cpu").size == 513


def test_all_components_of_a_token_are_in_its_chunk():
    assert chunks(1000, 3, K=4, device="cpu").size == 250
    assert chunks(600, 3, K=4096, device="meta").size == 1
    assert chunks(3, 3, K=5000, device="meta").size == 1  # more than a chunk may hold


def test_chunks_are_even():
    sizes = [len(x) for _, x, _ in chunks(2100, 3, device="cpu")]
    assert sizes == [700, 700, 700]
    asked = [len(x) for _, x, _ in chunks(10, 3, chunk_size=4, device="cpu")]
    assert asked == [4, 4, 2]


def test_tokens_that_do_not_count_are_in_no_chunk():
    kept = torch.arange(3000) % 2 == 0
    found = list(chunks(3000, 3, device="cpu", kept=kept))
    assert [len(x) for _, x, _ in found] == [750, 750]
    assert torch.equal(torch.cat([n for n, _, _ in found]), torch.arange(0, 3000, 2))
    assert list(chunks(5, 3, device="cpu", kept=torch.zeros(5, dtype=torch.bool))) == []


def test_processes_cut_alike_by_the_largest_part_of_the_vocabulary():
    shard = Shard(0, 10, object(), 2**20, 2**17)
    assert chunks(4096, 10, shard=shard).size == 512
    assert chunks(4096, 10).size == 4096


@pytest.mark.parametrize(
    ("vocab_size", "inside"), [(CHUNK_SCORES, True), (CHUNK_SCORES + 1, False)]
)
def test_narrow_weights_are_widened_into_the_workspace_where_it_may_be_as_large(vocab_size, inside):
    X = torch.empty(300, 1, 1, dtype=torch.bfloat16, device="meta")
    W = torch.empty(vocab_size, 1, dtype=torch.bfloat16, device="meta")
    scores = Scores(X, W, None, torch.ones(300, dtype=torch.bool), WHOLE, 1)
    assert scores.W.dtype == scores.space.dtype == torch.float32
    same = scores.W.untyped_storage()._cdata == scores.space.untyped_storage()._cdata
    assert same == inside
    assert scores.space.numel() == vocab_size


def test_wide_weights_are_not_copied():
    W = torch.zeros(7, 1)
    scores = Scores(torch.zeros(5, 1, 1), W, None, torch.ones(5, dtype=torch.bool), WHOLE, None)
    assert scores.W.data_ptr() == W.data_ptr()


def test_a_thread_keeps_one_buffer_until_it_is_too_small_or_of_another_type():
    wn.functional.release_workspace()
    first = workspace(1000, dtype=torch.float32, device=CPU)
    for size in (1000, 10):
        assert workspace(size, dtype=torch.float32, device=CPU) is first
    larger = workspace(1001, dtype=torch.float32, device=CPU)
    assert larger is not first
    assert larger.numel() == 1001
    wide = workspace(10, dtype=torch.float64, device=CPU)
    assert (wide.numel(), wide.dtype) == (10, torch.float64)
    others = []
    thread = threading.Thread(
        target=lambda: others.append(workspace(10, dtype=torch.float64, device=CPU))
    )
    thread.start()
    thread.join()
    assert others[0] is not wide
    assert workspace(10, dtype=torch.float64, device=CPU) is wide
    wn.functional.release_workspace()
    assert workspace(10, dtype=torch.float64, device=CPU) is not wide


def test_a_buffer_that_was_made_in_inference_mode_can_be_trained_on():
    wn.functional.release_workspace()
    with torch.inference_mode():
        assert not workspace(10, dtype=torch.float32, device=CPU).is_inference()


def test_elsewhere_every_call_has_memory_of_its_own():
    meta = torch.device("meta")
    first = workspace(10, dtype=torch.float32, device=meta)
    assert first.device == meta
    assert workspace(10, dtype=torch.float32, device=meta) is not first
