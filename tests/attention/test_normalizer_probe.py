"""What the probe of `use` looks at, and how closely: padding, and windows of many tokens."""

from dataclasses import replace

import pytest
import torch
import transformers as tr
from usable import GROUPED, tiny

import wideneck as wn
from wideneck.attached.normalizer_probe import (
    LONGEST,
    NUM_TOKENS,
    answers,
    distance,
    tolerance,
    widths,
)
from wideneck.attention import use
from wideneck.attention.routes import WAYS

original = WAYS["sdpa"].attend


def showing(call, config, more):
    """The route with more keys visible than the mask shows, none of them later ones."""
    if call.mask is None:
        return original(call, config)
    T = call.mask.shape[-1]
    earlier = torch.ones(T, T, dtype=torch.bool).tril()
    mask = call.mask | (more(call.mask, T) & earlier)
    return original(replace(call, mask=mask), config)


def windowed(window, positions=1024):
    torch.manual_seed(0)
    options = {**GROUPED, "max_position_embeddings": positions, "sliding_window": window}
    return tr.MistralForCausalLM(tr.MistralConfig(**options)).eval()


@pytest.mark.parametrize("window", [5, 20, 100, LONGEST - 1])
def test_an_attention_that_drops_a_window_is_refused(window, monkeypatch):
    def beyond(mask, T):
        at = torch.arange(T)
        return at[:, None] - at >= window

    made = windowed(window)
    monkeypatch.setitem(
        WAYS, "sdpa", replace(WAYS["sdpa"], attend=lambda *given: showing(*given, beyond))
    )
    with pytest.raises(wn.WideneckError, match="does more in its attention than a softmax"):
        use(made, "ssmax")


def test_an_attention_that_looks_at_padding_is_refused(monkeypatch):
    def padding(mask, _):
        return ~mask.diagonal(dim1=-2, dim2=-1)[..., None, :]  # hidden from itself

    monkeypatch.setitem(
        WAYS, "sdpa", replace(WAYS["sdpa"], attend=lambda *given: showing(*given, padding))
    )
    with pytest.raises(wn.WideneckError, match="does more in its attention than a softmax"):
        use(tiny("mistral"), "ssmax")


def test_a_leak_that_moves_less_than_rounding_may_is_refused(monkeypatch):
    def leaking(call, config):
        return original(call, config) + 5e-4 * call.value[:, :1].mean(2, keepdim=True)

    monkeypatch.setitem(WAYS, "sdpa", replace(WAYS["sdpa"], attend=leaking))
    with pytest.raises(wn.WideneckError, match="lets tokens see later ones"):
        use(tiny("llama"), "ssmax")


@pytest.mark.parametrize(
    ("window", "positions", "expected"),
    [(20, 1024, 26), (LONGEST, 1024, NUM_TOKENS), (20, 24, 24), (3, 8, 8)],
)
def test_the_probe_is_as_long_as_a_window_needs_and_a_model_has_positions(
    window, positions, expected
):
    found = answers(windowed(window, positions))
    assert found.plain.shape[1] == expected
    assert found.padded.shape[1] == expected - expected // 4
    assert not found.sees_later


def test_a_distance_is_a_share_of_the_spread_and_rounding_explains_the_root_of_its_unit():
    theirs = torch.tensor([[100.0, 103.0, 97.0]])  # the level is no spread
    assert distance(theirs, theirs) == 0
    assert distance(theirs + torch.tensor([[0.3, 0.0, 0.0]]), theirs) == pytest.approx(
        0.3 / 18**0.5, rel=1e-4
    )
    assert distance(theirs * torch.nan, theirs) == torch.inf
    assert tolerance(tiny("llama")) == pytest.approx(2**-11.5)
    assert tolerance(tiny("llama").bfloat16()) == pytest.approx(2**-3.5)


def test_the_width_of_a_layer_is_what_enters_it_and_a_layer_that_nothing_enters_is_named():
    model = tiny("llama")
    layers = [layer.self_attn for layer in model.model.layers]
    assert widths(model, layers) == dict.fromkeys(layers, model.config.hidden_size)
    with pytest.raises(wn.WideneckError, match="but Bilinear of LlamaForCausalLM gets something"):
        widths(model, [*layers, torch.nn.Bilinear(1, 1, 1)])
