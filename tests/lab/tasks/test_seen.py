"""What one pass tells of a memory under every setting, against the model itself and loops."""

import math
from dataclasses import replace

import pytest
import torch

from lab.tasks.small_tasks import TINY, trial
from wideneck.lab.tasks.encoder_decoder import batched
from wideneck.lab.tasks.seen import Seen, fitted
from wideneck.lab.tasks.views import OFF, VIEWS, trained_memory, with_memory
from wideneck.memory import Memory

SETTINGS = (
    Memory(temperature=2.0, bias=-1.0),
    Memory(temperature=0.3, bias=1.5),
    Memory(temperature=1.0, bias=0.0, scores="logits"),
)


@pytest.fixture(scope="module")
def read():
    """A model in float64 and its test documents."""
    made = trial()
    made.model.double()
    return made, made.seen("test")


def losses_of(made, memory):
    """Of each document, asked of the model alone with it, so that nothing is padded."""
    found = []
    with torch.no_grad(), with_memory(made.model, replace(memory, alpha=0.0)):
        for example in made.examples["test"]:
            batch = batched([example], made.padding)
            found.append(made.model.eval()(**batch).loss.item())
    return found


@pytest.mark.parametrize("memory", SETTINGS, ids=str)
def test_a_setting_gives_the_loss_of_a_model_that_has_it(read, memory):
    made, seen = read
    loss, share = seen.likelihoods(memory)
    assert seen.means(loss) == pytest.approx(losses_of(made, memory), rel=1e-9)
    assert 0 < share[seen.asked].min() < share[seen.asked].max() < 1


def test_with_the_memory_off_the_loss_is_the_output_layer_s(read):
    made, seen = read
    loss, share = seen.likelihoods(OFF)
    assert torch.equal(loss[seen.asked], seen.nll[seen.asked])
    assert share.max() == 0
    assert losses_of(made, OFF) == pytest.approx(seen.means(seen.nll), rel=1e-9)


def test_afterwards_the_model_has_its_own_memory_again(read):
    made, _ = read
    own = made.model.cache_memory
    with with_memory(made.model, OFF):
        assert made.model.cache_memory is not own
    assert made.model.cache_memory is own


def test_a_trained_memory_is_told_with_what_it_has_learned(read):
    made, _ = read
    memory = made.model.cache_memory
    with torch.no_grad():
        memory.log_temperature.fill_(math.log(3.0))
        memory.bias.fill_(-0.25)
    found = trained_memory(made.model)
    assert (found.temperature, found.bias) == (pytest.approx(3.0), -0.25)
    assert list(VIEWS) == ["off", "full", "fitted"]


def test_alignment_is_the_reciprocal_rank_among_distinct_tokens(read):
    _, seen = read
    found, inside, asked = [], 0, 0
    for w in range(len(seen.target)):
        for t in range(seen.target.shape[1]):
            target = seen.target[w, t].item()
            if target < 0:
                continue
            asked += 1
            best: dict[int, float] = {}
            for m in range(seen.values.shape[1]):
                if seen.visible[w, t, m]:
                    token, s = seen.values[w, m].item(), seen.similarity[w, t, m].item()
                    best[token] = max(best.get(token, -math.inf), s)
            if target in best:
                inside += 1
                above = sum(s > best[target] for s in best.values())
                level = sum(s == best[target] for s in best.values()) - 1
                found.append(1 / (1 + above + level / 2))
    assert 0 < inside < asked
    assert seen.alignment() == pytest.approx(sum(found) / len(found))
    assert seen.recalled() == pytest.approx(inside / asked)


def test_a_target_that_is_always_the_most_similar_has_alignment_1():
    values = torch.tensor([[5, 6, 7, 6]])
    target = torch.tensor([[6, 7, 9]])
    similarity = torch.tensor([[[0.0, -1.0, 0.5, 2.0], [0.0, 1.0, 1.5, 1.0], [1.0, 0, 0, 0]]])
    visible = torch.ones(1, 3, 4, dtype=torch.bool)
    nll = torch.ones(1, 3)
    seen = Seen(nll, nll, similarity, visible, values, target)
    assert seen.alignment() == 1.0
    assert seen.recalled() == pytest.approx(2 / 3)
    visible[0, 0, 3] = visible[0, 1, 2] = False  # its best memory, and its only one
    # The first target stands third then, of three tokens; the second in no memory.
    assert seen.alignment() == pytest.approx(1 / 3)


def test_documents_are_joined_without_a_trace(read):
    _, seen = read
    names = ("nll", "log_normalizer", "similarity", "visible", "values", "target")

    def part(at, targets, memories):
        wide = {"similarity": (targets, memories), "visible": (targets, memories)}
        cuts = {name: (targets,) for name in names} | {"values": (memories,)} | wide
        return Seen(
            *(getattr(seen, n)[at][(slice(None), *(slice(x) for x in cuts[n]))] for n in names)
        )

    T, M = seen.similarity.shape[1:]
    lengths = seen.asked.sum(1)
    short = int(lengths.argmin())
    joined = Seen.joined(
        [part(slice(short, short + 1), int(lengths[short]), M), part(slice(0, 3), T, M)]
    )
    at = [short, 0, 1, 2]
    for memory in SETTINGS:
        got, want = (one.likelihoods(memory)[0] for one in (joined, seen))
        assert torch.equal(got[joined.asked], want[at][seen.asked[at]])
    assert joined.means(joined.nll) == [seen.means(seen.nll)[i] for i in at]


def test_a_cache_fitted_afterwards_is_better_than_none_where_it_can_be(read):
    made, seen = read
    start = trained_memory(made.model)
    found = fitted(seen, start)
    loss = {
        name: seen.likelihoods(memory)[0][seen.asked].mean().item()
        for name, memory in (("off", OFF), ("start", start), ("fitted", found))
    }
    assert loss["fitted"] < min(loss["off"], loss["start"])
    for nearby in (
        replace(found, bias=found.bias + 0.5),
        replace(found, bias=found.bias - 0.5),
        replace(found, temperature=1.5 * found.temperature),
        replace(found, temperature=found.temperature / 1.5),
    ):
        assert seen.likelihoods(nearby)[0][seen.asked].mean().item() >= loss["fitted"] - 1e-4


def test_a_memory_without_the_targets_is_fitted_to_nothing(read):
    _, seen = read
    elsewhere = replace(seen, values=torch.full_like(seen.values, 319))
    found = fitted(elsewhere, Memory(temperature=1.0, bias=-2.0))
    _, share = elsewhere.likelihoods(found)
    assert share[seen.asked].max() < 1e-3
    assert elsewhere.alignment() is None
    assert TINY.shape.vocab_size == 320


def test_a_token_as_similar_as_the_target_counts_half():
    values, target = torch.tensor([[5, 6, 6]]), torch.tensor([[6]])
    similarity = torch.tensor([[[2.0, 1.0, 2.0]]])
    visible, nll = torch.ones(1, 1, 3, dtype=torch.bool), torch.ones(1, 1)
    seen = Seen(nll, nll, similarity, visible, values, target)
    assert seen.alignment() == pytest.approx(1 / 1.5)
