"""Every measure of section "output" against the obvious code in float64, for every kind of head."""

import math

import pytest
import torch

from tiny import CASES, tiny_model
from tiny_text import character_tokenizer, write_text
from wideneck.audits.clock import Clock
from wideneck.audits.output import audit_output
from wideneck.audits.output.rank_cost import default_ranks, fitting_half
from wideneck.audits.states import collect_states
from wideneck.data import cut_windows, read_text
from wideneck.models import measure_logit_map, read_head

WINDOW = 40


class Dense:
    """Hidden states and logits of the whole text in float64, straight from the model."""

    def __init__(self, model, windows):
        model = model.double()
        entering = []
        head = model.get_output_embeddings()
        hooks = [head.register_forward_pre_hook(lambda _, args: entering.append(args[0]))]
        self.output = model(windows.ids, output_hidden_states=True)
        for hook in hooks:
            hook.remove()
        self.entering = entering[0]
        self.hidden = self.entering[:, -WINDOW:]
        self.logits = self.output.logits[:, -WINDOW:]
        self.log_p = self.logits.log_softmax(-1)
        self.targets = windows.targets
        self.weight = head.weight.detach().clone()
        self.bias = 0.0 if head.bias is None else head.bias.detach().clone()
        self.nll = -self.log_p.gather(2, self.targets[..., None])[..., 0]
        model.float()


@pytest.fixture(params=CASES, scope="module")
def case(request, tmp_path_factory):
    """(audit, dense twin, logit map) on some 400 tokens."""
    model = tiny_model(request.param)
    # Larger weights than at initialization: logits of a size that a soft cap bends.
    for parameter in model.parameters():
        parameter.data.mul_(3)
    path = write_text(tmp_path_factory.mktemp("text") / "a.txt")
    windows = cut_windows(
        read_text(path), character_tokenizer(), num_tokens=10 * WINDOW, window=WINDOW, prefix=[0]
    )
    logit_map = measure_logit_map(model)
    states = collect_states(model, windows)
    found = audit_output(read_head(model), logit_map, states, Clock())
    with torch.no_grad():
        return found, Dense(model, windows), logit_map


def test_loss(case):
    found, dense, _ = case
    assert found.loss.nats_per_token.value == pytest.approx(dense.nll.mean().item(), rel=1e-5)
    assert found.loss.perplexity.value == pytest.approx(dense.nll.mean().exp().item(), rel=1e-4)
    # One character is one token and one byte here.
    bits = dense.nll.mean().item() / math.log(2)
    assert found.loss.bits_per_byte.value == pytest.approx(bits, rel=1e-5)


def test_logits(case):
    found, dense, _ = case
    assert found.logits.mean == pytest.approx(dense.logits.mean().item(), abs=1e-5)
    assert found.logits.std == pytest.approx(dense.logits.std(correction=0).item(), rel=1e-4)
    spread = dense.logits.std(-1, correction=0).mean().item()
    assert found.logits.spread == pytest.approx(spread, rel=1e-4)
    assert found.logits.maximum == pytest.approx(dense.logits.max().item(), rel=1e-5)


def test_gradient_retention_is_an_explicit_projection(case):
    found, dense, logit_map = case
    g = dense.log_p.exp() - torch.nn.functional.one_hot(dense.targets, dense.log_p.shape[-1])
    raw = dense.hidden @ dense.weight.T + dense.bias
    g = g * logit_map.derivative(raw)
    u, s, _ = torch.linalg.svd(dense.weight, full_matrices=False)
    basis = u[:, s > s[0] * 1e-10]
    share = (g @ basis).square().sum(-1) / g.square().sum(-1)
    assert found.gradient.energy_share.value == pytest.approx(share.mean().item(), rel=1e-4)
    assert found.gradient.norm_share.value == pytest.approx(share.sqrt().mean().item(), rel=1e-4)


def test_rank_of_log_probabilities_is_that_of_the_svd(case):
    found, dense, logit_map = case
    matrix = dense.log_p.flatten(0, 1)
    s = torch.linalg.svdvals(matrix)
    eps = torch.finfo(torch.float32).eps
    tolerance = 0.5 * math.sqrt(sum(matrix.shape) + 1) * s[0].item() * eps
    assert found.rank.press == int((s > tolerance).sum())
    for name, epsilon in (("effective_1e3", 1e-3), ("effective_1e4", 1e-4)):
        covered = s.square().cumsum(0) / s.square().sum()
        assert getattr(found.rank, name) == int((covered < 1 - epsilon).sum()) + 1
    if logit_map.kind == "softcap":
        assert found.rank.bound is None
    else:
        assert found.rank.press <= found.rank.bound <= dense.weight.shape[1] + 2


def test_anisotropy_is_the_mean_over_all_pairs(case):
    found, dense, _ = case
    embeddings = dense.output.hidden_states[0]
    assert [layer.layer for layer in found.anisotropy] == [
        "embeddings",
        "layer 1",
        "entering the head",
    ]
    for layer, hidden in ((found.anisotropy[0], embeddings), (found.anisotropy[2], dense.entering)):
        for value, h in (
            (layer.mean_cosine, hidden.flatten(0, 1)),
            (layer.mean_cosine_without_first, hidden[:, 1:].flatten(0, 1)),
        ):
            h = h[h.norm(dim=-1) > 0]  # the padding token's embedding is zero: no direction
            unit = torch.nn.functional.normalize(h, dim=-1)
            pairs = (unit @ unit.T)[~torch.eye(len(unit), dtype=bool)]
            assert value == pytest.approx(pairs.mean().item(), abs=1e-5)


@pytest.mark.parametrize("method", ["plain", "centred", "whitened", "fisher"])
def test_nats_lost_are_those_of_the_truncated_matrix(case, method):
    """Builds W_r densely, by its definition, and takes the loss of the model with it."""
    found, dense, logit_map = case
    fit = torch.arange(len(dense.hidden)) % 2 == 0
    x = dense.hidden[fit].flatten(0, 1)
    p = dense.log_p[fit].exp().flatten(0, 1).mean(0)
    d = dense.weight.shape[1]
    mean = torch.zeros(d).double() if method == "plain" else dense.weight.mean(0)
    rows = dense.weight - mean
    left, right = torch.eye(len(rows)).double(), torch.eye(d).double()
    if method in ("whitened", "fisher"):
        right = torch.linalg.cholesky(x.T @ x / len(x))  # any root will do: W R R^-1
    if method == "fisher":
        # diag(p) - p p^T = L^T L with L = diag(sqrt p)(1 - 1 p^T)
        left = p.sqrt().diag() @ (torch.eye(len(p)).double() - p[None])
    for point in (q for q in found.rank_cost.points if q.method == method):
        _, _, vh = torch.linalg.svd(left @ rows @ right, full_matrices=False)
        keep = vh[: point.rank]
        truncated = rows @ right @ keep.T @ keep @ torch.linalg.inv(right) + mean
        z_r = logit_map(dense.hidden[~fit] @ truncated.T + dense.bias)
        z, y = dense.logits[~fit], dense.targets[~fit][..., None]
        change = (z_r.logsumexp(-1) - z_r.gather(2, y)[..., 0]) - dense.nll[~fit]
        assert point.measured.value == pytest.approx(change.mean().item(), abs=2e-5, rel=1e-3)
        delta, q = z_r - z, dense.log_p[~fit].exp()
        first = (q * delta).sum(-1) - delta.gather(2, y)[..., 0]
        variance = (q * delta**2).sum(-1) - (q * delta).sum(-1) ** 2
        assert point.first_order == pytest.approx(first.mean().item(), abs=2e-5, rel=1e-3)
        assert point.fisher == pytest.approx(variance.mean().item() / 2, abs=2e-5, rel=1e-3)
        assert point.predicted == pytest.approx(point.first_order + point.fisher, abs=1e-9)


def test_no_document_is_both_fitted_and_measured():
    document = torch.tensor([4, 9, 2, 4, 9, 2, 9])
    fit = fitting_half(document)
    assert fit.tolist() == [True, False, True, True, False, True, False]
    assert not set(document[fit].tolist()) & set(document[~fit].tolist())


def test_windows_of_one_document_take_turns():
    assert fitting_half(torch.tensor([3, 3, 3])).tolist() == [True, False, True]


def test_every_rank_is_there(case):
    found, dense, _ = case
    ranks = {q.rank for q in found.rank_cost.points}
    assert sorted(ranks) == default_ranks(dense.weight.shape[1])
