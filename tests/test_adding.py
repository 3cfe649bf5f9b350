"""One class and one row: what is added that way goes the whole path, here in memory."""

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F

import wideneck as wn
from tiny import tiny_model
from tiny_text import character_tokenizer, write_text
from wideneck import attention
from wideneck import config as c
from wideneck.attention import config as n
from wideneck.attention.jacobian import of_each_key
from wideneck.attention.normalizer import count
from wideneck.commands.heads import rows
from wideneck.errors import WideneckError
from wideneck.functional import log_score, slope
from wideneck.registry import check_flag, check_number, name_of

SHORT = wn.AttentionSettings(
    context=32, num_windows=2, num_queries=8, sizes=(2,), reference_size=2, ablation_context=0
)


@dataclass(frozen=True, kw_only=True)
class Asinh(c.Activation):
    """Logits bent for both signs."""

    bend: c.Number = 1.0
    learned: bool = True

    name = "asinh"
    formula = "f(z) = asinh(k z) / k"
    paper = "-"
    cost = "softmax + a pass over the scores"
    learnable = positive = ("bend",)

    def __post_init__(self):
        check_number(name_of, self, "bend", positive=True, tensor=True)
        check_flag(name_of, self, "learned")

    def parameters(self, like):
        return [torch.as_tensor(self.bend).to(like)]

    def log_score(self, z, k):
        return (k * z).asinh() / k

    def derivative(self, z, k):
        return (1 + (k * z).square()).rsqrt()

    def parameter_gradients(self, z, weight, k):
        return [(weight * (z * self.derivative(z, k) - self.log_score(z, k)) / k).sum()]

    def start(self, given, probe, model):
        logits = probe()
        return {"bend": 1e-3 / max(-logits.lowest, logits.highest)}


@dataclass(frozen=True, kw_only=True)
class Share(n.Normalizer):
    """A share of every key by itself."""

    gain: "float | torch.Tensor" = 1.0

    name = "share"
    formula = "g sigmoid(l_i) / n"
    jacobian = "g / (4 n)"
    sums_to_one = False
    may_abstain = True
    learns = ("gain",)

    def weights(self, scores, visible):
        weights = self.gain * scores.sigmoid() / count(scores, visible).clamp(min=1)
        return weights if visible is None else weights * visible

    def derivative(self, weights, n):
        return of_each_key(weights * (1 - weights * n / self.gain))

    def largest_norm(self, n):
        return float(torch.as_tensor(self.gain).max()) / (4 * n)


@pytest.fixture
def asinh(monkeypatch):
    for registry in (c.ACTIVATIONS, c.HEADS):
        monkeypatch.setitem(registry, Asinh.name, Asinh())


@pytest.fixture
def share(monkeypatch):
    monkeypatch.setitem(n.NORMALIZERS, Share.name, Share())


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("K", [None, 3])
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.usefixtures("asinh")
def test_an_activation_has_its_loss_and_its_gradients(reduction, K, compiled):
    torch.manual_seed(0)
    shape, target = (7, 5) if K is None else (7, K, 5), torch.randint(11, (7,))
    made = [torch.randn(size, dtype=torch.float64) for size in (shape, (11, 5), (11,), ())]
    prior = None if K is None else torch.randn(7, K, dtype=torch.float64)
    x, W, b, k = (leaf.requires_grad_() for leaf in (*made[:3], made[3].exp()))

    def ours(x):
        given = {"linear_bias": b, "activation": Asinh(bend=k), "reduction": reduction}
        log_prior = None if prior is None else prior.log_softmax(-1)
        loss = wn.linear_cross_entropy(x, W, target, **given, log_prior=log_prior, z_loss=0.1)
        told = wn.functional.linear_token_outputs(
            x,
            W,
            target,
            linear_bias=b,
            activation=Asinh(bend=k),
            log_prior=log_prior,
            outputs=("entropy",),
        )
        return loss.sum() + told.entropy.sum()

    if compiled:
        torch._dynamo.reset()
        ours = torch.compile(ours, backend="aot_eager", fullgraph=True)
    score = torch.asinh(k * F.linear(x, W, b)) / k
    squares, log_p = score.logsumexp(-1).square(), score.log_softmax(-1)
    if prior is not None:
        log_p = (prior.log_softmax(-1)[..., None] + log_p).logsumexp(-2)
        squares = squares.mean(-1)
    want = F.nll_loss(log_p, target, reduction="none") + 0.1 * squares
    want = (want.mean() if reduction == "mean" else want.sum()) - (log_p.exp() * log_p).sum()
    torch.testing.assert_close(ours(x), want)
    gradients = [torch.autograd.grad(total, (x, W, b, k)) for total in (ours(x), want)]
    torch.testing.assert_close(*gradients)


@pytest.mark.usefixtures("asinh")
def test_an_activation_says_its_slope_and_stands_in_the_table_of_heads():
    z = torch.linspace(-3, 3, 7, dtype=torch.float64, requires_grad=True)
    (want,) = torch.autograd.grad(log_score(z, "asinh").sum(), z)
    torch.testing.assert_close(slope(z, "asinh"), want)
    row = {row["name"]: row for row in rows(4, 9)}["asinh"]
    assert (row["parameters_added"], row["rank_bound"], row["formula"]) == (1, 9, Asinh.formula)
    mixture = c.head_config("mos", activation={"name": "asinh", "bend": 2.0}, num_components=2)
    assert c.head_config(c.to_dict(mixture)) == mixture


@pytest.mark.parametrize("head", ["asinh", "mos"])
@pytest.mark.usefixtures("asinh")
def test_an_activation_is_attached_saved_and_audited(head, tmp_path):
    ids = torch.arange(3, 15)[None]
    want = tiny_model("llama")(input_ids=ids).logits.log_softmax(-1)
    options = {} if head == "asinh" else {"activation": "asinh", "num_components": 2}
    model = wn.attach(tiny_model("llama"), head, **options)
    assert (model(input_ids=ids).logits - want).abs().max() < 1e-4
    model.lm_head.activation.bend.data.fill_(0.3)
    model(input_ids=ids, labels=ids).loss.backward()
    assert model.lm_head.activation.bend.grad.abs().item() > 0
    model.save_pretrained(tmp_path / "saved")
    loaded = wn.load(tmp_path / "saved")
    assert torch.equal(loaded(input_ids=ids).logits, model(input_ids=ids).logits)
    text, tokenizer = write_text(tmp_path / "text.txt"), character_tokenizer()
    report = wn.audit(loaded, text, ("head", "output"), num_tokens=128, tokenizer=tokenizer)
    assert report.head.kind == head
    assert report.output.rank.bound is None


def test_what_says_no_start_and_no_derivative_is_refused():
    """Nothing takes a neighbour's in its place."""
    with pytest.raises(TypeError, match="start"):
        type("NoStart", (Asinh,), {"start": c.Activation.start})()
    with pytest.raises(TypeError, match="derivative"):
        type("NoDerivative", (Share,), {"derivative": n.Normalizer.derivative})()
    with pytest.raises(WideneckError, match="config of one head"):
        wn.attach(tiny_model("llama"), Asinh())  # no row


@pytest.mark.usefixtures("share")
def test_a_normalizer_has_its_weights_limits_and_jacobian():
    torch.manual_seed(0)
    scores = 3 * torch.randn(40, 6, dtype=torch.float64)
    mask = torch.rand(40, 6) < 0.7
    p = attention.normalize(scores, "share", mask, gain=1.5)
    for row, seen, got in zip(scores.tolist(), mask.tolist(), p.tolist(), strict=True):
        z = [1.5 / (1 + torch.tensor(-x).exp().item()) / max(sum(seen), 1) for x in row]
        assert got == pytest.approx([x if s else 0 for x, s in zip(z, seen, strict=True)])
    config = n.normalizer_config("share", gain=1.5)
    found = config.derivative(config.weights(scores, None), count(scores, None))
    exact = torch.func.vmap(torch.func.jacrev(lambda row: config.weights(row, None)))(scores)
    torch.testing.assert_close(torch.diag_embed(found.diagonal), exact)
    assert torch.linalg.matrix_norm(exact, 2).max() <= config.largest_norm(6)


@pytest.mark.usefixtures("share")
def test_a_normalizer_is_put_into_a_model_saved_and_audited(tmp_path):
    ids = torch.arange(3, 15)[None]
    model = attention.use(tiny_model("llama"), "share", gain=4.0)
    layers = [layer.self_attn.normalizer for layer in model.model.layers]
    assert all(torch.equal(x.gain, torch.full_like(x.gain, 4.0)) for x in layers)
    layers[0].gain.data[1] = 9.0
    model(input_ids=ids, labels=ids).loss.backward()
    assert all((x.gain.grad != 0).all() for x in layers)
    model.save_pretrained(tmp_path / "saved")
    loaded = wn.load(tmp_path / "saved")
    assert torch.equal(loaded(input_ids=ids).logits, model(input_ids=ids).logits)
    text, tokenizer = write_text(tmp_path / "text.txt"), character_tokenizer()
    how = {"tokenizer": tokenizer, "attention": SHORT}
    assert wn.audit(loaded, text, "attention", **how).attention.normalizer == "share (gain 4)"
    plain = wn.audit(tiny_model("llama"), text, "attention", normalizers=("share",), **how)
    assert [point.normalizer for point in plain.attention.comparison][1:] == ["share (gain 1)"]
