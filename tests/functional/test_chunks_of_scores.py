"""Which tokens share a chunk, and the memory that all chunks share.

Sizes are those of tensors of the device "meta", which have a shape and no numbers.
"""

import threading

import pytest
import torch

import wideneck as wn
from wideneck.functional import chunks as cut
from wideneck.functional.chunks import CHUNK_SCORES, chunk_tokens
from wideneck.functional.kept import Kept
from wideneck.functional.scores import Scores, workspace
from wideneck.functional.shard import WHOLE, Shard

CPU = torch.device("cpu")


def chunks(num_tokens, vocab_size, *, K=1, shard=WHOLE, chunk_size=None, device="meta", kept=None):
    X = torch.empty(num_tokens, K, 1, device=device)
    W = torch.empty(vocab_size, 1, device=device)
    kept = Kept(num_tokens) if kept is None else Kept.of(kept)
    return Scores(X, W, None, kept, shard, chunk_size)


H200 = 149 * 10**9


@pytest.mark.parametrize(
    ("memory", "num_tokens", "vocab_size", "K", "want"),
    [
        (H200, 8192, 256_000, 1, 2816),  # 4,042 rows fit, 3,968 in whole tiles: three chunks
        (H200, 8192, 128_256, 1, 4096),
        (H200, 2048, 50_304, 4, 1024),
        (H200, 2048, 50_304, 15, 256),
        (16 * 10**9, 8192, 256_000, 1, 384),
        (10**9, 100, 256_000, 1, 25),
    ],
)
def test_elsewhere_a_chunk_takes_a_share_of_all_memory(
    monkeypatch, memory, num_tokens, vocab_size, K, want
):
    monkeypatch.setattr(cut, "memory_of", lambda device: memory)
    scores = chunks(num_tokens, vocab_size, K=K)
    assert scores.size == want
    assert 24 * 6 * scores.size * K * vocab_size <= memory
    assert scores.size * K <= 4096


def test_a_chunk_has_fewer_scores_than_32_bits_count(monkeypatch):
    monkeypatch.setattr(cut, "memory_of", lambda device: 10**15)
    assert chunks(8192, 2**20).size == 1664  # 2,047 rows, 1,920 in whole tiles: five even chunks


def test_processes_cut_by_the_smallest_memory_among_them(monkeypatch):
    monkeypatch.setattr(cut, "memory_of", lambda device: 10**15)
    X, W = torch.empty(8192, 1, 1, device="meta"), torch.empty(10, 1, device="meta")
    shard = Shard(0, 10, object(), 256_000, 256_000, 16 * 10**9)
    assert chunk_tokens(X, W, 8192, shard, None) == 384


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
    assert chunks(4096, 10, shard=shard, device="cpu").size == 512
    assert chunks(4096, 10, device="cpu").size == 1024


@pytest.mark.parametrize(
    ("vocab_size", "inside"), [(CHUNK_SCORES, True), (CHUNK_SCORES + 1, False)]
)
def test_narrow_weights_are_widened_into_the_workspace_where_it_may_be_as_large(vocab_size, inside):
    X = torch.empty(300, 1, 1, dtype=torch.bfloat16, device="meta")
    W = torch.empty(vocab_size, 1, dtype=torch.bfloat16, device="meta")
    scores = Scores(X, W, None, Kept(300), WHOLE, 1)
    assert scores.products.W.dtype == scores.space.dtype == torch.float32
    same = scores.products.W.untyped_storage()._cdata == scores.space.untyped_storage()._cdata
    assert same == inside
    assert scores.space.numel() == vocab_size


def test_wide_weights_are_not_copied():
    W = torch.zeros(7, 1)
    scores = Scores(torch.zeros(5, 1, 1), W, None, Kept(5), WHOLE, None)
    assert scores.products.W.data_ptr() == W.data_ptr()


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
