"""`use` with a kernel: what a model got, why nothing faster, and what is refused."""

import copy
import pickle

import pytest
import torch
from test_use_refused import assert_untouched
from usable import logits, shaken, tiny, token_ids, used

import wideneck as wn
from wideneck.attention import dense, routes_taken, use
from wideneck.attention.learned import LearnedNormalizer


@pytest.mark.parametrize("name", ["ssmax", "sink", "topk", "entmax15"])
def test_the_dense_kernel_gives_the_same_model(name):
    ids = token_ids()
    options = {"k": 3} if name == "topk" else {}
    fast, made = (use(tiny("llama"), name, kernel=k, **options) for k in ("auto", "dense"))
    torch.testing.assert_close(logits(made, ids), logits(fast, ids), rtol=0, atol=1e-5)
    assert {route.name for route in routes_taken(made).values()} == {"dense"}


def test_every_layer_says_its_route_and_why_not_a_faster_one():
    made = used("mistral", "entmax15")
    found = routes_taken(made)
    assert list(found) == [f"model.layers.{i}.self_attn" for i in range(2)]
    for route in found.values():
        assert route.name == "dense"
        assert route.why_not["sdpa"] == "entmax15 is no softmax of changed scores"
        assert "of a query at once" in route.why_not["flex"]
        assert "takes heads of width 16, 32, 64, 128 or 256, here 8" in route.why_not["adasplash"]
    assert routes_taken(tiny("mistral")) == {}
    fused = routes_taken(used("mistral", "ssmax"))
    assert {str(route) for route in fused.values()} == {"sdpa"}


@pytest.mark.parametrize(
    ("model", "name", "kernel", "sentence"),
    [
        ("llama", "ssmax", "fast", "kernel must be one of auto, sdpa, flex, adasplash, dense, got"),
        ("llama", "entmax15", "sdpa", "kernel='sdpa' was asked for, .*entmax15 is no softmax"),
        ("llama", "sigmoid", "flex", "no backward pass on a device of type 'cpu'"),
        ("llama", "entmax15", "adasplash", "width 16, 32, 64, 128 or 256, here 8"),
        ("llama", "softmax", "dense", "is the model's own attention, and takes no kernel='dense'"),
        ("gemma2", "ssmax", "sdpa", "the model caps its scores"),
        ("gpt-oss", "topk", "sdpa", "own sink may be among the k largest"),
    ],
)
def test_a_kernel_that_cannot_be_is_refused_and_nothing_changes(model, name, kernel, sentence):
    made = tiny(model)
    before = copy.deepcopy(made)
    with pytest.raises(wn.WideneckError, match=sentence):
        use(made, name, kernel=kernel)
    assert_untouched(made, before)


def test_a_kernel_is_of_the_model_at_hand_and_not_saved(tmp_path):
    made = shaken(use(tiny("llama"), "ssmax", kernel="dense"))
    for again in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert {n.kernel for n in again.modules() if isinstance(n, LearnedNormalizer)} == {"dense"}
    made.save_pretrained(tmp_path)
    loaded = wn.load(tmp_path)
    assert {n.kernel for n in loaded.modules() if isinstance(n, LearnedNormalizer)} == {"auto"}
    torch.testing.assert_close(logits(loaded, token_ids()), logits(made, token_ids()))


def test_weights_are_formed_whatever_the_kernel():
    made, ids = use(tiny("llama"), "ssmax", kernel="sdpa"), token_ids()
    out = made(input_ids=ids, output_attentions=True)
    torch.testing.assert_close(out.logits, logits(made, ids))
    assert all(weights is not None for weights in out.attentions)


# Newer versions of transformers say that the method has got another name.
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable.*:FutureWarning")
@pytest.mark.parametrize("name", ["entmax15", "asentmax", "stickbreaking"])
def test_training_in_blocks_has_the_gradients_of_all_scores(name, monkeypatch):
    made, ids = shaken(used("mistral", name)).train(), token_ids()
    parameters = list(made.parameters())
    expected = torch.autograd.grad(made(input_ids=ids, labels=ids).loss, parameters)
    monkeypatch.setattr(dense, "KEPT", 0)
    monkeypatch.setattr(dense, "ROWS", 4)
    monkeypatch.setitem(dense.BLOCK, "cpu", 60)
    for checkpointed in (False, True):
        if checkpointed:
            made.gradient_checkpointing_enable({"use_reentrant": False})
        found = torch.autograd.grad(made(input_ids=ids, labels=ids).loss, parameters)
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
