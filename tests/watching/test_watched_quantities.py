"""Every watched number against a dense computation in float64."""

import math

import pytest
import torch
from watchable import (
    HEADS,
    MIXTURES,
    PLAIN,
    is_ours,
    looked_at,
    plain,
    scores_of,
    states_of,
    with_head,
)

MODELS = [(plain, case) for case in PLAIN] + [(with_head, head) for head in HEADS]
every_model = pytest.mark.parametrize(
    ("make", "name"), MODELS, ids=lambda x: getattr(x, "__name__", x)
)


def close(found, want):
    assert found == pytest.approx(float(want), rel=1e-8, abs=1e-12)


@every_model
@torch.no_grad()
def test_scores_are_those_of_all_logits(make, name):
    model = make(name)
    with torch.enable_grad():
        found = looked_at(model)
    hidden, logits, target = states_of(model)
    z = scores_of(model, hidden, logits)
    p = z.softmax(-1)
    torch.testing.assert_close(p, logits.softmax(-1))
    lse = z.exp().sum(-1).log()

    assert found["tokens"] == len(target) < 44
    close(found["largest_score"], z.abs().amax(-1).mean())
    close(found["largest_above_mean"], (z.amax(-1) - z.mean(-1)).mean())
    close(found["mean_score"], z.mean())
    close(found["log_normalizer"], lse.mean())
    assert found["log_normalizer_variance"] == pytest.approx(lse.var(correction=0).item(), rel=1e-6)
    close(found["entropy"], -(p * p.log()).sum(-1).mean())
    close(found["sum_sq_prob"], p.square().sum(-1).mean())
    close(found["top_prob"], p.amax(-1).mean())
    close(found["top1"], (z.argmax(-1) == target).double().mean())
    close(found["state_norm"], hidden.square().sum(-1).mean().sqrt())


@pytest.mark.parametrize("head", MIXTURES)
@torch.no_grad()
def test_a_mixture_has_probabilities_and_no_scores(head):
    model = with_head(head)
    with torch.enable_grad():
        found = looked_at(model)
    _, log_p, target = states_of(model)
    close(found["entropy"], -(log_p.exp() * log_p).sum(-1).mean())
    close(found["sum_sq_prob"], (2 * log_p).exp().sum(-1).mean())
    close(found["top_prob"], log_p.exp().amax(-1).mean())
    close(found["top1"], (log_p.argmax(-1) == target).double().mean())
    assert not {
        "largest_score",
        "log_normalizer",
        "log_normalizer_variance",
        "gradient_kept",
    } & set(found)


@every_model
@torch.no_grad()
def test_the_matrix_is_that_of_a_singular_value_decomposition(make, name):
    model = make(name)
    with torch.enable_grad():
        found = looked_at(model)
    W = model.get_output_embeddings().weight
    mean, norms = W.mean(0), W.norm(dim=1).sort().values
    sigma, sigma_centred = torch.linalg.svdvals(W), torch.linalg.svdvals(W - mean)
    share = sigma_centred.square() / sigma_centred.square().sum()

    close(found["mean_row_norm"], mean.norm())
    close(found["mean_row_share"], len(W) * mean.square().sum() / W.square().sum())
    close(found["row_norm_median"], norms[round((len(W) - 1) / 2)])
    close(found["row_norm_p05"], norms[round((len(W) - 1) * 0.05)])
    close(found["row_norm_p95"], norms[round((len(W) - 1) * 0.95)])
    close(found["row_norm_maximum"], norms[-1])
    close(2.0 ** found["bf16_margin"] * W.abs().max().item(), torch.finfo(torch.bfloat16).max)
    close(found["stable_rank"], sigma.square().sum() / sigma[0] ** 2)
    close(found["stable_rank_centred"], sigma_centred.square().sum() / sigma_centred[0] ** 2)
    entropy = -(share * share.log()).sum()
    assert found["singular_entropy"] == pytest.approx(
        math.log(len(share)) - entropy.item(), rel=1e-6
    )


@every_model
def test_the_gradient_that_is_kept_is_its_projection(make, name):
    model = make(name)
    found = looked_at(model)
    head = model.get_output_embeddings()
    with torch.no_grad():
        hidden, _, target = states_of(model)
        raw = head.contexts(hidden)[0] @ head.weight.T if is_ours(model) else hidden @ head.weight.T
        if getattr(head, "bias", None) is not None:
            raw = raw + head.bias
    raw.requires_grad_()
    if is_ours(model):
        from wideneck.functional import log_prob

        log_p = log_prob(raw * head.logit_scale, head.activation())
    else:
        log_p = model_map(model, raw).log_softmax(-1)
    (-log_p[torch.arange(len(target)), target]).sum().backward()
    left = torch.linalg.qr(head.weight.detach()).Q
    kept = (raw.grad @ left).square().sum() / raw.grad.square().sum()
    close(found["gradient_kept"], kept)


def model_map(model, raw):
    """What Gemma and Granite do to their logits, from their own configs."""
    cap = getattr(model.config, "final_logit_softcapping", None)
    if cap is not None:
        return cap * torch.tanh(raw / cap)
    return raw / getattr(model.config, "logits_scaling", 1.0)


@every_model
def test_the_share_of_the_gradient_and_the_rank_of_the_states(make, name):
    model = make(name)
    found = looked_at(model)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    total = sum(g.square().sum() for g in gradients)
    head = model.get_output_embeddings().weight.grad.square().sum()
    # The norms are taken in float32 for narrower gradients, in float64 here.
    close(found["head_gradient_share"], head / total)
    with torch.no_grad():
        hidden, _, _ = states_of(model)
    sigma = torch.linalg.svdvals(hidden - hidden.mean(0))
    p = sigma / sigma.sum()
    assert found["effective_rank"] == pytest.approx(
        torch.exp(-(p * p.log()).sum()).item(), rel=1e-5
    )


INVARIANT = (
    "largest_above_mean",
    "entropy",
    "sum_sq_prob",
    "top_prob",
    "top1",
    "stable_rank_centred",
    "singular_entropy",
)


def test_one_vector_added_to_every_row_changes_what_a_softmax_does_not_see_and_nothing_else():
    before, model = looked_at(plain("llama")), plain("llama")
    W = model.get_output_embeddings().weight
    with torch.no_grad():
        W += torch.linspace(-3, 5, W.shape[1], dtype=torch.float64)
    after = looked_at(model)
    for name in INVARIANT:
        assert after[name] == pytest.approx(before[name], rel=1e-7), name
    for name in (
        "mean_score",
        "log_normalizer",
        "mean_row_share",
        "stable_rank",
        "row_norm_median",
    ):
        assert after[name] != pytest.approx(before[name], rel=1e-2), name
    close(after["mean_score"], _mean_row_times_mean_state(model))


@torch.no_grad()
def _mean_row_times_mean_state(model):
    hidden, _, _ = states_of(model)
    return model.get_output_embeddings().weight.mean(0) @ hidden.mean(0)


def test_a_sample_is_evenly_spaced_and_halves_of_a_batch_sample_what_the_whole_does():
    from wideneck.watching.seen import sampled

    hidden = torch.arange(64.0)[:, None]
    target = torch.arange(64)
    whole, _ = sampled(hidden, target, 16)
    halves = [sampled(part, None, 8)[0] for part in hidden.chunk(2)]
    assert whole.flatten().tolist() == list(range(0, 64, 4))
    assert torch.equal(torch.cat(halves), whole)
    target[::2] = -100
    picked, targets = sampled(hidden, target, 100)
    assert picked.flatten().tolist() == targets.tolist() == list(range(1, 64, 2))


def test_float32_and_bfloat16_models_are_measured_in_at_least_float32():
    for dtype, within in ((torch.float32, 1e-4), (torch.bfloat16, 3e-2)):
        model, exact = plain("llama").to(dtype), plain("llama").to(dtype).double()
        found, want = looked_at(model), looked_at(exact)
        for name in ("entropy", "log_normalizer", "state_norm", "effective_rank"):
            assert found[name] == pytest.approx(want[name], rel=within), (dtype, name)
        for name in ("stable_rank_centred", "row_norm_median", "mean_row_share"):
            assert found[name] == pytest.approx(want[name], rel=1e-9), (dtype, name)
