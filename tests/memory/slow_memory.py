"""The definitions of the memory as loops, in float64, one number at a time: the specification."""

import math

import torch
import torch.nn.functional as F


def slow_sees(i, j, valid, *, window=None, document=None):
    """Whether position i of one sequence sees memory j, the pair (h_j, x_{j + 1})."""
    if j >= i or not (valid[j] and valid[j + 1]):
        return False
    if window is not None and i - j > window:
        return False
    return document is None or (document[j] == document[i] and document[j + 1] == document[i])


def slow_mixture(memory, z, s, seen, values, vocab_size):
    """p(w) for all w, of one query: z (V,), s, seen and values of length M."""
    p = z.softmax(-1)
    cache = torch.zeros(vocab_size, dtype=z.dtype)
    for j in range(len(s)):
        if seen[j]:
            cache[values[j]] += s[j].exp()
    if memory.mixture == "linear":
        if not any(seen):
            return p
        return (1 - memory.weight) * p + memory.weight * cache / cache.sum()
    own = z.exp() if memory.scores == "logits" else p
    return (own + cache) / (own + cache).sum()


def slow_ranking(s, visible, values, target, embedding, *, margin, reduction, rank_over):
    """The ranking loss by a triple loop over queries, positives and negatives."""
    terms = {}
    for b, t in [(b, t) for b in range(s.shape[0]) for t in range(s.shape[1])]:
        if target[b, t] < 0:
            continue
        seen = visible[b, t].tolist()
        wanted = embedding[target[b, t]]
        columns = [j for j in range(len(seen)) if rank_over == "all" or seen[j]]

        def nearness(j, b=b, t=t, wanted=wanted):
            if values[b, j] == target[b, t]:
                return -math.inf
            return -F.cosine_similarity(wanted, embedding[values[b, j]], dim=0).item()

        rank = {j: r for r, j in enumerate(sorted(columns, key=nearness))}
        shown = [j for j in columns if seen[j]]
        for i in (j for j in shown if values[b, j] == target[b, t]):
            for j in (j for j in shown if values[b, j] != target[b, t]):
                offset = rank[j] - rank[i]
                term = (s[b, t, j] - s[b, t, i] + offset * margin).clamp(min=0)
                terms.setdefault(offset, []).append(term)
    if not terms:
        return s.new_zeros(())
    everything = torch.stack([term for group in terms.values() for term in group])
    means = torch.stack([torch.stack(group).mean() for group in terms.values()])
    return {
        "sum": everything.sum(),
        "pair_mean": everything.mean(),
        "offset_mean": means.mean(),
        "offset_sum": means.sum(),
    }[reduction]


def example(seed=0, batch=3, length=12, vocab_size=7, width=5):
    """Hidden states, ids, logits and embeddings, all float64; few tokens, so that they repeat."""
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    ids = torch.randint(vocab_size, (batch, length), generator=generator)
    return (
        randn(batch, length, width),
        ids,
        randn(batch, length, vocab_size),
        randn(vocab_size, width),
    )
