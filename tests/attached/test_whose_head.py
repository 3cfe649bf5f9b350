"""A head of wideneck is audited as what it is: in memory, from its folder and in a series."""

import dataclasses
import json
import shutil

import pytest
import torch
from attachable import attached, shaken
from safetensors.torch import load_file, save_file

import wideneck as wn
from checkpoints import saved, without
from tiny import tiny_model
from wideneck.audits.head import CONVEX, not_one_order
from wideneck.config import HEADS, Mixture, SoftCap, head_config
from wideneck.errors import WideneckError
from wideneck.functional import log_prob
from wideneck.heads import build
from wideneck.models.head_weights import HeadForm

ATTACHED = [
    ("llama", "softmax", {}),
    ("granite", "scaled_softmax", {}),
    ("llama-tied", "sigsoftmax", {}),
    ("phi", "gss", {}),
    ("gpt2", "sigmoid", {}),
    ("llama", "plif", {"num_knots": 50}),
    ("gemma2-low-cap", "softcap", {}),
    ("llama-tied", "low_rank", {"rank": 5}),
    ("llama-tied", "moc", {}),
    ("gpt-neox", "mos", {}),
    ("gemma2", "mos", {}),
    ("opt", "moss", {}),
    ("llama", "mos", {"activation": {"name": "sigmoid"}}),
    ("llama", "memory", {}),
]
NAMED_OTHERWISE = {"tensor", "tying"}
"""A model in memory knows a tied matrix by the head's name, a file by the embedding's."""


def model_with(case, head, options):
    if head == "memory":
        return wn.attach_memory(tiny_model(case))
    return shaken(attached(case, head, **options))


def differences(ours, theirs):
    names = [field.name for field in dataclasses.fields(ours)]
    return {name for name in names if getattr(ours, name) != getattr(theirs, name)}


@pytest.mark.parametrize(("case", "head", "options"), ATTACHED)
def test_memory_folder_and_series_say_the_same_of_a_head(case, head, options, tmp_path):
    model = model_with(case, head, options)
    in_memory = wn.audit(model, sections="head").head
    folder = saved(model, tmp_path / "step1")
    from_file = wn.audit(folder, sections="head").head
    assert differences(in_memory, from_file) <= NAMED_OTHERWISE
    shutil.copytree(folder, tmp_path / "step2")
    series = wn.audit_series([tmp_path], argmaxable=True)
    assert [point.head for point in series.points] == [from_file, from_file]

    assert from_file.kind == ("softmax" if head == "memory" else head)
    assert from_file.has_memory == (head == "memory")
    weight = model.get_output_embeddings().weight.detach().double()
    singular = torch.linalg.svdvals(weight).tolist()
    assert from_file.spectrum.raw.singular_values == pytest.approx(singular)
    bent = "activation" in options or (head == "mos" and case == "gemma2")  # which caps its logits
    assert (from_file.argmaxable is None) == (head == "memory" or bent)
    told = " ".join(from_file.notes)
    assert ("Not applicable: tokens that can never be" in told) == (from_file.argmaxable is None)
    assert ("which meets contexts" in told) == (head in ("low_rank", "moc", "mos", "moss"))
    bent |= head not in ("softmax", "scaled_softmax", "low_rank", "moc", "mos", "memory")
    assert (f"this {head} does" in told) == bent


def test_a_plain_head_and_one_under_a_normalizer_are_softmaxes_without_notes(tmp_path):
    plain = wn.audit(tiny_model("llama"), sections="head").head
    assert (plain.kind, plain.has_memory, plain.notes) == ("softmax", False, [])
    model = wn.attention.use(tiny_model("llama"), "sink")
    assert wn.audit(saved(model, tmp_path), sections="head").head == plain
    assert wn.audit(model, sections="head").head == plain


# What a file says without its config


@pytest.mark.parametrize("head", ["moss", "plif", "memory"])
def test_parts_of_a_head_of_which_no_config_speaks_are_refused(head, tmp_path):
    options = {"num_knots": 50} if head == "plif" else {}
    saved(model_with("llama", head, options), tmp_path)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").unlink()
    part = "cache_memory" if head == "memory" else r"lm_head\."
    for _ in range(2):
        with pytest.raises(WideneckError, match=rf"Beside lm_head\.weight .*{part}.* does more"):
            wn.audit(tmp_path, sections="head")
        tiny_model("llama").config.save_pretrained(tmp_path)  # the original's in its place
    (tmp_path / "config.json").write_text(config)
    wn.audit(tmp_path, sections="head")


def test_a_damaged_config_of_a_head_is_one_sentence(tmp_path):
    saved(model_with("llama", "moss", {}), tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    content["head"] = {"name": "moss", "num_components": -1}
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(WideneckError, match="num_components"):
        wn.audit(tmp_path, sections="head")


def test_a_folder_without_a_part_of_its_head_still_has_its_matrix(tmp_path):
    """It could not be run; its matrix is what it is."""
    saved(model_with("llama", "moss", {}), tmp_path)
    before = wn.audit(tmp_path, sections="head").head
    path = tmp_path / "model.safetensors"
    save_file(without("lm_head.projections.prior.weight")(load_file(path)), path)
    assert wn.audit(tmp_path, sections="head").head == before


def test_a_head_in_a_wrapper_is_not_taken_for_a_plain_layer():
    model = model_with("llama", "sigsoftmax", {})
    inner = model.lm_head

    class Wrapper(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.weight = inner, inner.weight

    model.lm_head = Wrapper()
    with pytest.raises(WideneckError, match="stands in a Wrapper, which may change"):
        wn.audit(model, sections="head")


# Which verdicts hold for which head


def interior_row(seed):
    """An output matrix in float64 of which row 0 lies inside the hull of the others."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    share = torch.rand(6, generator=generator, dtype=torch.float64)
    weight[0] = share / share.sum() @ weight[1:]
    return weight


@pytest.mark.parametrize("name", [n for n in HEADS if n not in ("low_rank", "moc", "mos", "moss")])
@pytest.mark.parametrize("mixed", [False, True])
def test_a_token_that_never_has_the_largest_score_is_never_first_where_it_is_said(name, mixed):
    """Over contexts of all sizes; and where it is not said, some contexts make it the first."""
    activation = head_config(name)
    options = {"scale": 2.0} if name == "scaled_softmax" else {}
    options |= {"cap": 3.0} if name == "softcap" else {}
    activation = dataclasses.replace(activation, **options)
    config = Mixture(activation=activation, num_components=3) if mixed else activation
    reason = not_one_order(HeadForm(config=config, is_ours=True))
    assert (reason is None) == (name != "relu" and (not mixed or isinstance(activation, CONVEX)))
    if name == "plif":
        bend = torch.linspace(-20, 20, activation.num_knots, dtype=torch.float64)
        bend = bend / 100 + 6 * torch.tanh(bend / 2)  # it rises, steeply at 0
        activation = dataclasses.replace(activation, values=bend)
    best = -torch.inf
    for seed in range(30):
        weight = interior_row(seed)
        generator = torch.Generator().manual_seed(1000 + seed)
        sizes = 10 ** (2 * torch.rand(4000, 3, 1, generator=generator, dtype=torch.float64) - 0.5)
        h = sizes * torch.randn(4000, 3, 3, generator=generator, dtype=torch.float64)
        p = log_prob(h @ weight.T, activation).exp()  # (contexts, components, tokens)
        p = p.mean(1) if mixed else p.flatten(0, 1)
        best = max(best, float((p[:, 0] - p[:, 1:].amax(1)).max()))
    if reason is None:
        assert best <= 0
    elif mixed and name != "relu":
        assert best > 1e-3


@pytest.mark.parametrize("k", [0.2, 1.0, 2.0, 7.0])
def test_exp_f_is_convex_for_a_gss_of_any_slope(k):
    z = torch.linspace(-30, 30, 6001, dtype=torch.float64, requires_grad=True)
    f = z + (k - 1) * torch.nn.functional.logsigmoid(z)
    (first,) = torch.autograd.grad(f.sum(), z, create_graph=True)
    second = torch.zeros_like(z) if k == 1 else torch.autograd.grad(first.sum(), z)[0]
    assert (first.square() + second > 0).all()
    ours = log_prob(z.detach()[None], head_config("gss", slope=k))[0]
    torch.testing.assert_close(ours - ours[3000], (f - f[3000]).detach(), rtol=1e-6, atol=1e-6)


def test_every_kind_of_head_is_judged():
    for name in HEADS:
        form = HeadForm(config=head_config(name), is_ours=True)
        assert (not_one_order(form) is None) == (name != "relu")
        assert "memory" in not_one_order(dataclasses.replace(form, has_memory=True))
    assert build("moss", hidden_size=4, vocab_size=9).config == HEADS["moss"]
    assert not isinstance(SoftCap(), CONVEX)
