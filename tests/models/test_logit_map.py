import pytest
import torch

from tiny import CASES, tiny_model
from wideneck.errors import WideneckError
from wideneck.models import LogitMap, measure_logit_map


@pytest.mark.parametrize("name", CASES)
def test_the_map_is_measured_exactly(name):
    assert measure_logit_map(tiny_model(name)) == CASES[name][1]


@pytest.mark.parametrize("name", CASES)
def test_the_map_takes_raw_logits_to_the_models_logits(name):
    model = tiny_model(name)
    raw = []
    hook = model.get_output_embeddings().register_forward_hook(lambda m, a, r: raw.append(r))
    with torch.no_grad():
        final = model(torch.arange(8)[None]).logits
    hook.remove()
    torch.testing.assert_close(measure_logit_map(model)(raw[0]), final)


@pytest.mark.parametrize("name", CASES)
def test_the_hook_leaves(name):
    model = tiny_model(name)
    measure_logit_map(model)
    assert not model.get_output_embeddings()._forward_hooks


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_map_is_found_in_other_types(dtype):
    """As near as a logit of the type can be."""
    found = measure_logit_map(tiny_model("gemma2").to(dtype))
    assert found.kind == "softcap"
    rounding = torch.finfo(dtype).eps
    assert found.cap == pytest.approx(30, rel=max(rounding, 1e-9))
    assert found.scale == pytest.approx(1, rel=max(rounding, 1e-9))


def changed(name, change):
    """The tiny model with something done to its final logits."""
    model = tiny_model(name)
    plain = model.forward

    def forward(input_ids):
        output = plain(input_ids=input_ids)
        output.logits = change(output.logits)
        return output

    model.forward = forward
    return model


@pytest.mark.parametrize("scale", [1 / 8, 0.0123, 3.0, 256 / 2304, 17.5, 1.0001])
def test_any_scale_is_found(scale):
    found = measure_logit_map(changed("llama", lambda z: z * scale))
    assert found.kind == "scale"
    assert found.scale == pytest.approx(scale, rel=1e-7)


@pytest.mark.parametrize("scale", [1.0, 0.25, 1.7])
@pytest.mark.parametrize("cap", [0.5, 15.0, 30.0, 50.0, 300.0])
def test_scale_then_cap_is_found(scale, cap):
    found = measure_logit_map(changed("llama", lambda z: cap * torch.tanh(scale * z / cap)))
    assert found.kind == "softcap"
    assert found.scale == pytest.approx(scale, rel=1e-6)
    assert found.cap == pytest.approx(cap, rel=1e-6)


def test_cap_then_scale_is_found():
    found = measure_logit_map(changed("llama", lambda z: 0.5 * 30 * torch.tanh(z / 30)))
    assert found == LogitMap("softcap", 0.5, 15.0)


def masked(z):
    z = z.clone()
    z[..., 90:] = -torch.inf
    return z


def barely_masked(z):
    z = z.clone()
    z[..., 90] = z[..., 90] - 0.01
    return z


@pytest.mark.parametrize(
    "change",
    [
        masked,
        barely_masked,
        lambda z: torch.log_softmax(z, -1),
        lambda z: z / z.norm(dim=-1, keepdim=True),
        lambda z: z + 1,
        lambda z: z.clamp(-30, 30),
        lambda z: z.flip(-1),
        lambda z: 0 * z,
        lambda z: -30 * torch.tanh(z / 30),
        lambda z: 30 * torch.atan(z / 30),
        lambda z: z.sign() * z.abs().log1p(),
        lambda z: z * torch.arange(1, z.shape[-2] + 1)[:, None],
        lambda z: z[..., :90],
        lambda z: z[:, -1:],
    ],
)
def test_anything_else_is_refused(change):
    with pytest.raises(WideneckError, match="measures would be wrong"):
        measure_logit_map(changed("llama", change))


def test_a_negative_scale_is_a_scale():
    assert measure_logit_map(changed("llama", lambda z: -2 * z)) == LogitMap("scale", -2.0)


def test_the_hook_leaves_when_the_model_fails():
    def fail(_):
        raise RuntimeError("broken")

    model = changed("llama", fail)
    with pytest.raises(WideneckError, match=r"does not run on input_ids alone.*broken"):
        measure_logit_map(model)
    assert not model.get_output_embeddings()._forward_hooks


def test_a_module_without_output_embeddings_is_refused():
    with pytest.raises(WideneckError, match="names no output embedding"):
        measure_logit_map(torch.nn.Linear(2, 3))


@pytest.mark.parametrize(
    "found",
    [LogitMap("identity"), LogitMap("scale", 0.125), LogitMap("softcap", 0.5, 3.0)],
)
def test_the_derivative_is_that_of_the_map(found):
    raw = torch.linspace(-20, 20, 101, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(found(raw).sum(), raw)
    torch.testing.assert_close(found.derivative(raw.detach()), slope)
