import pytest
import torch
import torch.nn.functional as F

from memory.slow_memory import example, slow_mixture
from wideneck import memory as m
from wideneck.memory.config import Memory, memory_config

KINDS = [
    Memory(),
    Memory(mixture="linear", weight=0.3),
    Memory(scores="logits"),
]


def setting(seed=0, **options):
    hidden, ids, z, _ = example(seed)
    valid = torch.ones_like(ids, dtype=torch.bool)
    valid[1, :4] = False
    valid[2, 9:] = False
    s = m.similarities(hidden, hidden[:, :-1])
    return z, s, m.visible_history(valid, **options), ids[:, 1:], ids.roll(-1, 1)


def cache(s, seen, values, vocab_size):
    tokens = m.distinct(values)
    log_cache = m.cache_log_probs(s, seen, tokens.group)
    return log_cache, m.over_vocabulary(log_cache, tokens.ids, vocab_size)


def whole(memory, z, s, seen, values):
    tokens = m.distinct(values)
    log_cache = m.cache_log_probs(s, seen, tokens.group)
    shares = m.log_shares(memory, m.masked_logsumexp(s, seen), log_normalizer(memory, z))
    return m.mix(z.log_softmax(-1), log_cache, tokens.ids, shares)


def log_normalizer(memory, z):
    return z.logsumexp(-1) if memory.scores == "logits" else None


@pytest.mark.parametrize("memory", KINDS)
@pytest.mark.parametrize("window", [None, 2])
def test_the_mixture_is_equation_3_by_brute_force(memory, window):
    z, s, seen, values, target = setting(window=window)
    lz = log_normalizer(memory, z)
    log_p = z.log_softmax(-1)
    found = m.recall(s, seen, values, target)

    mixed = whole(memory, z, s, seen, values)
    nll = -log_p.gather(-1, target[..., None])[..., 0]
    loss = m.mixture_nll(memory, nll, found, lz)

    for b in range(z.shape[0]):
        for t in range(z.shape[1]):
            p = slow_mixture(memory, z[b, t], s[b, t], seen[b, t].tolist(), values[b], z.shape[-1])
            torch.testing.assert_close(mixed[b, t].exp(), p)
            torch.testing.assert_close(loss[b, t], -p[target[b, t]].log())


@pytest.mark.parametrize("memory", KINDS)
def test_an_empty_memory_leaves_the_model_to_the_bit_with_finite_gradients(memory):
    z, s, seen, values, target = setting()
    z, s = z.requires_grad_(), s.requires_grad_()
    nothing = torch.zeros_like(seen)
    nll = F.cross_entropy(z.flatten(0, 1), target.flatten(), reduction="none").view(target.shape)
    found = m.recall(s, nothing, values, target)

    loss = m.mixture_nll(memory, nll, found, log_normalizer(memory, z))
    gz, gs = torch.autograd.grad(loss.sum(), (z, s))

    torch.testing.assert_close(loss, nll)
    torch.testing.assert_close(gz, z.softmax(-1) - F.one_hot(target, z.shape[-1]))
    assert not gs.any()


@pytest.mark.parametrize("memory", KINDS)
def test_gradients_are_those_of_the_formula(memory):
    """Rows without a positive, and the first, whose memory is empty, among them."""
    z, s, seen, values, target = setting(seed=3)

    def loss(z, s):
        log_p = z.log_softmax(-1)
        nll = -log_p.gather(-1, target[..., None])[..., 0]
        found = m.recall(s, seen, values, target)
        return m.mixture_nll(memory, nll, found, log_normalizer(memory, z))

    assert torch.autograd.gradcheck(loss, (z.requires_grad_(), s.requires_grad_()))


def test_a_target_beyond_every_memory_has_the_models_probability_times_its_share():
    memory = memory_config()
    s = torch.tensor([[[700.0, 600.0]]])  # exp() of both is beyond float32
    seen, values = torch.ones(1, 1, 2, dtype=torch.bool), torch.tensor([[1, 2]])
    nll = torch.tensor([[0.5]])

    inside = m.mixture_nll(memory, nll, m.recall(s, seen, values, torch.tensor([[1]])))
    outside = m.mixture_nll(memory, nll, m.recall(s, seen, values, torch.tensor([[0]])))

    torch.testing.assert_close(inside, torch.zeros(1, 1), atol=1e-6, rtol=0)
    torch.testing.assert_close(outside, torch.tensor([[700.5]]))


def test_a_memory_a_thousand_nats_down_is_still_in_the_cache():
    """Acc@k of the cache alone counts the tokens that it holds, however unlikely."""
    s = torch.tensor([[[0.0, -1000.0]]])
    seen, values = torch.ones(1, 1, 2, dtype=torch.bool), torch.tensor([[3, 1]])

    log_p = cache(s, seen, values, 5)[1][0, 0]

    assert log_p.tolist() == [-torch.inf, -1000.0, -torch.inf, 0.0, -torch.inf]


@pytest.mark.parametrize("memory", KINDS)
def test_probabilities_sum_to_one_whatever_the_scores(memory):
    z, s, seen, values, _ = setting()
    for scale in (1e-3, 1.0, 50.0):
        log_p = whole(memory, z, s * scale, seen, values)
        torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(log_p.shape[:2]).double())
        assert (log_p <= 1e-12).all()


def test_what_is_hidden_may_hold_any_id_and_any_score_and_changes_nothing():
    _, s, seen, values, target = setting()
    odd, odd_values = s.masked_fill(~seen, 1e30), values.clone()
    hidden = ~seen.any(1)
    odd_values[hidden] = 6  # what is hidden is padding: a token, if any
    assert hidden.any()

    for a, b in zip(
        vars(m.recall(s, seen, values, target)).values(),
        vars(m.recall(odd, seen, odd_values, target)).values(),
        strict=True,
    ):
        assert torch.equal(a, b)
    assert torch.equal(cache(s, seen, values, 7)[1], cache(odd, seen, odd_values, 7)[1])


def test_every_token_of_a_memory_stands_once():
    values = torch.tensor([[4, 2, 4, 9], [0, 0, 0, 0]])
    tokens = m.distinct(values)
    assert tokens.ids.tolist() == [[2, 4, 9, -1], [0, -1, -1, -1]]
    assert torch.equal(tokens.ids.gather(-1, tokens.group), values)


def test_the_memories_own_loss_has_finite_gradients_over_the_vocabulary():
    _, s, seen, values, _ = setting()
    s = s.requires_grad_()
    log_p, _ = cache(s, seen, values, 7)

    (gradient,) = torch.autograd.grad(log_p[log_p > -torch.inf].sum(), s)

    assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_hidden_states_give_no_nan(dtype):
    hidden, ids, _, _ = example()
    hidden = (hidden * 100).to(dtype).requires_grad_()
    seen = m.visible_history(torch.ones_like(ids, dtype=torch.bool))

    def loss_of(hidden):
        s = m.similarities(hidden, hidden[:, :-1])
        nll = torch.full(ids.shape, 2.0, dtype=s.dtype)
        return m.mixture_nll(Memory(), nll, m.recall(s, seen, ids[:, 1:], ids.roll(-1, 1)))

    exact = hidden.detach().double().requires_grad_()
    loss, want = loss_of(hidden), loss_of(exact)
    torch.testing.assert_close(loss.double(), want, rtol=1e-5, atol=1e-5)
    gradient, wanted = (
        torch.autograd.grad(x.sum(), h)[0] for x, h in ((loss, hidden), (want, exact))
    )
    rounding = torch.finfo(dtype).eps
    torch.testing.assert_close(
        gradient.double(), wanted, rtol=rounding, atol=rounding * wanted.abs().max().item()
    )
