"""Every measure of section "memory" against plain loops, on models of every kind of head."""

import math

import pytest
import torch

from audits.memory import plain
from tiny import tiny_model
from tiny_text import character_tokenizer, write_text
from wideneck.audits.clock import Clock
from wideneck.audits.memory import LayerRanks, audit_memory
from wideneck.audits.output.rank_cost import fitting_half
from wideneck.audits.states import collect_states
from wideneck.data import cut_windows, read_text
from wideneck.errors import WideneckError
from wideneck.models import measure_logit_map, read_head

WINDOW, WINDOWS = 24, 5
CHUNK = 17
"""Tokens whose losses are found together: each half of the text has several chunks, and a rest."""
MODELS = ["gpt2", "llama", "opt", "gemma2-low-cap", "cohere", "phi"]
PREFIX = {"gpt2": [], "llama": [0, 3]}


class Loops:
    """States, logits and sequences of the whole text, straight from the model."""

    def __init__(self, model, windows):
        entering = []
        head = model.get_output_embeddings()
        hook = head.register_forward_pre_hook(lambda _, args: entering.append(args[0]))
        with torch.no_grad():
            output = model(windows.ids, output_hidden_states=True)
        hook.remove()
        self.states = {"embeddings": output.hidden_states[0], "entering the head": entering[0]}
        self.logits = output.logits.double()
        self.sequences = torch.cat([windows.ids, windows.targets[:, -1:]], 1).tolist()
        length = windows.ids.shape[1]
        self.positions = range(length - WINDOW, length)
        self.document = windows.document

    def similarity(self, layer, w, cosine=False):
        h = self.states[layer][w].double()
        norm = h.norm(dim=1)

        def score(i, j, _):
            product = torch.dot(h[i], h[j]).item()
            if cosine:
                return product / norm[j].item() if norm[j] > 0 else 0.0
            return product / math.sqrt(h.shape[1])

        return score

    def rows(self, w):
        """(log p of the model, similarities, values, target, z) of each prediction."""
        score = self.similarity("entering the head", w)
        sequence = self.sequences[w]
        for i in self.positions:
            values = [value for _, value in plain.memory(sequence, i)]
            s = [score(i, j, values) for j in range(i)]
            z, target = self.logits[w, i], sequence[i + 1]
            yield z.log_softmax(0)[target].item(), s, values, target, z.tolist()


@pytest.fixture(params=MODELS, scope="module")
def case(request, tmp_path_factory):
    """(audit, loops) on windows of several documents."""
    model = tiny_model(request.param)
    for parameter in model.parameters():
        parameter.data.mul_(3)
    path = write_text(tmp_path_factory.mktemp("text") / "a.txt")
    windows = cut_windows(
        read_text(path),
        character_tokenizer(),
        num_tokens=WINDOWS * WINDOW,
        window=WINDOW,
        prefix=PREFIX.get(request.param, [0]),
    )
    ranks = LayerRanks(windows)
    states = collect_states(model, windows, observer=ranks, keep=ranks.keep)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wideneck.audits.output.layer.TOKENS", CHUNK)
        found = audit_memory(read_head(model), measure_logit_map(model), states, ranks, Clock())
    return found, Loops(model, windows)


def test_recurrence_counts_what_the_window_has_shown(case):
    found, loops = case
    distances, elsewhere = [], []
    for w, sequence in enumerate(loops.sequences):
        for i in loops.positions:
            places = [j for j, value in plain.memory(sequence, i) if value == sequence[i + 1]]
            distances.append(i + 1 - (places[-1] + 1) if places else None)
            values = {value for _, value in plain.memory(sequence, i)}
            others = [v for v in range(WINDOWS) if loops.document[v] != loops.document[w]]
            hits = [loops.sequences[v][i + 1] in values for v in others]
            elsewhere.append(sum(hits) / len(hits))
    known = [d for d in distances if d is not None]
    assert found.num_ranked == len(known)
    assert found.num_tokens == len(distances)
    assert found.num_documents == len(set(loops.document.tolist()))
    assert found.window == WINDOW
    assert found.recurrence.share.value == pytest.approx(len(known) / len(distances))
    assert found.recurrence.elsewhere.value == pytest.approx(plain.mean(elsewhere))
    for bucket in found.recurrence.by_distance:
        inside = sum(bucket.nearest <= d <= (bucket.farthest or math.inf) for d in known)
        assert bucket.share.value == pytest.approx(inside / len(distances))


@pytest.mark.parametrize("layer", ["embeddings", "entering the head"])
def test_ranks_by_similarity_are_those_of_the_loops(case, layer):
    found, loops = case
    retrieved = next(x for x in found.layers if x.layer == layer)
    for name in ("dot", "cosine"):
        rows = []
        for w, sequence in enumerate(loops.sequences):
            score = loops.similarity(layer, w, name == "cosine")

            def rounded(i, j, values, score=score):
                return torch.tensor(score(i, j, values), dtype=torch.float32).item()

            rows += plain.ranks(sequence, loops.positions, rounded)
        measured = getattr(retrieved, name)
        assert measured.reciprocal_rank.value == pytest.approx(plain.mean(rows), rel=1e-9)
        first = [None if row is None else row == 1 for row in rows]
        assert measured.first.value == pytest.approx(plain.mean(first))


def test_every_layer_is_there_in_order(case):
    found, _ = case
    assert [x.layer for x in found.layers] == ["embeddings", "layer 1", "entering the head"]


def test_ranks_without_states_are_those_of_their_definitions(case):
    found, loops = case
    rows = {name: [] for name in ("recency", "frequency", "token_identity")}
    chance, distinct = [], []
    for sequence in loops.sequences:
        same = lambda i, j, _, x=sequence: 1000 * (x[i] == x[j]) + j  # noqa: E731
        scores = {
            "recency": lambda i, j, _: j,
            "frequency": lambda i, j, values: 1000 * values.count(values[j]) + j,
            "token_identity": same,
        }
        for name, score in scores.items():
            rows[name] += plain.ranks(sequence, loops.positions, score)
        for i in loops.positions:
            values = [value for _, value in plain.memory(sequence, i)]
            if sequence[i + 1] in values:
                n = len(set(values))
                distinct.append(n)
                chance.append(sum(1 / r for r in range(1, n + 1)) / n)
    for name, expected in rows.items():
        measured = getattr(found.baselines, name)
        assert measured.reciprocal_rank.value == pytest.approx(plain.mean(expected))
        first = [None if row is None else row == 1 for row in expected]
        assert measured.first.value == pytest.approx(plain.mean(first))
    assert found.baselines.chance.value == pytest.approx(plain.mean(chance))
    assert found.distinct == pytest.approx(plain.mean(distinct))


def scored(cache, s, sequence, i):
    """The scores of one kind of cache."""
    if cache.scores == "counts":
        return [0.0] * len(s)
    if cache.scores == "same token":
        return [float(sequence[j] == sequence[i]) for j in range(i)]
    return s


def nll_of(cache, log_p, s, values, target, z):
    theta = cache.theta or 0.0
    if cache.mixture == "published":
        return plain.published_nll(z, s, values, target)
    if cache.mixture == "linear":
        return plain.linear_nll(log_p, s, values, target, theta, cache.weight)
    if cache.bias is None:
        return -log_p
    return plain.joint_nll(log_p, s, values, target, theta, cache.bias)


def test_losses_and_gains_are_those_of_the_formulas(case):
    found, loops = case
    fit = fitting_half(loops.document)
    gain = found.gain
    assert gain.num_fit_tokens == int(fit.sum()) * WINDOW
    assert gain.num_test_tokens == int((~fit).sum()) * WINDOW
    assert len(gain.caches) == 2 * 3 + 1  # joint and linear by three kinds of scores, published
    for cache in gain.caches:
        halves = {True: [], False: []}
        for w, sequence in enumerate(loops.sequences):
            for i, (log_p, s, values, target, z) in zip(
                loops.positions, loops.rows(w), strict=True
            ):
                s = scored(cache, s, sequence, i)
                loss = nll_of(cache, log_p, s, values, target, z)
                halves[bool(fit[w])].append((-log_p, loss))
        model, loss = (plain.mean(column) for column in zip(*halves[False], strict=True))
        assert gain.loss.value == pytest.approx(model, rel=1e-5)
        assert cache.loss.value == pytest.approx(loss, rel=1e-4)
        assert cache.gain.value == pytest.approx(model - loss, rel=1e-4, abs=2e-5)
        if cache.fitted_gain is not None:
            alone, fitted = (plain.mean(column) for column in zip(*halves[True], strict=True))
            assert cache.fitted_gain == pytest.approx(alone - fitted, abs=2e-5)
            assert cache.fitted_gain >= 0


def share_of(cache, s, z):
    """The cache's part of the probability at one prediction."""
    if cache.mixture == "published":
        return plain.published_share(z, s)
    if cache.mixture == "linear":
        return cache.weight if s else 0.0
    return 0.0 if cache.bias is None else plain.joint_share(s, cache.theta or 0.0, cache.bias)


def test_the_share_of_a_cache_is_its_part_of_the_probability_on_the_other_half(case):
    found, loops = case
    fit = fitting_half(loops.document)
    for cache in found.gain.caches:
        shares = []
        for w in (w for w in range(WINDOWS) if not fit[w]):
            for i, (_, s, _, _, z) in zip(loops.positions, loops.rows(w), strict=True):
                shares.append(share_of(cache, scored(cache, s, loops.sequences[w], i), z))
        assert cache.mass == pytest.approx(plain.mean(shares), rel=1e-4, abs=1e-9)


def test_the_spread_is_that_of_the_similarities_on_the_half_that_is_fitted(case):
    found, loops = case
    fit = fitting_half(loops.document)
    rows = [plain.spread(s) for w in range(WINDOWS) if fit[w] for _, s, _, _, _ in loops.rows(w)]
    assert found.gain.spread == pytest.approx(plain.mean(rows), rel=1e-4)


def test_logits_that_are_not_the_models_are_refused(tmp_path):
    """Or every loss would be of a head that the model does not have."""
    model, path = tiny_model("llama"), write_text(tmp_path / "a.txt")
    windows = cut_windows(
        read_text(path), character_tokenizer(), num_tokens=2 * WINDOW, window=WINDOW, prefix=[0]
    )
    ranks = LayerRanks(windows)
    states = collect_states(model, windows, observer=ranks, keep=ranks.keep)
    audit_memory(read_head(model), measure_logit_map(model), states, ranks, Clock())
    states.last_logits[-1, 3] += 1
    with pytest.raises(WideneckError, match="logits"):
        audit_memory(read_head(model), measure_logit_map(model), states, ranks, Clock())


def test_the_gain_over_counts_is_the_difference_of_gains(case):
    found, _ = case
    gains = {(c.mixture, c.scores): c.gain.value for c in found.gain.caches}
    for cache in found.gain.caches:
        if cache.scores == "counts" or cache.mixture == "published":
            assert cache.over_counts is None
        else:
            expected = cache.gain.value - gains[cache.mixture, "counts"]
            assert cache.over_counts.value == pytest.approx(expected, abs=1e-9)
