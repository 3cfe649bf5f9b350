"""Numbers of normalizers as tensors of every form, along every dim, against the loops."""

import itertools
import math

import numpy as np
import pytest
import torch
from slow_rows import slow_row
from torch.autograd import gradcheck

from wideneck import config as heads
from wideneck.attention import normalize
from wideneck.attention.config import NORMALIZERS, normalizer_config, to_dict
from wideneck.attention.entmax import entmax
from wideneck.attention.normalizer import count
from wideneck.attention.sink_attention import sink_attention
from wideneck.errors import WideneckError

SHAPE = (2, 3, 4)
GIVEN = {
    "sink": {"logit": 0.4},
    "ssmax": {"scale": 0.43, "bias": 0.2},
    "asentmax": {"alpha": 1.5, "delta": 1.0, "beta": 0.5, "gamma": 0.6},
}
RANGES = {
    ("temperature", "temperature"): (0.5, 2.0),
    ("sink", "logit"): (-1.0, 2.0),
    ("ssmax", "scale"): (0.1, 2.0),
    ("ssmax", "bias"): (-0.5, 1.0),
    ("entmax", "alpha"): (1.1, 2.7),
    ("asentmax", "alpha"): (1.1, 1.9),
    ("asentmax", "delta"): (0.2, 2.0),
    ("asentmax", "beta"): (0.1, 1.0),
    ("asentmax", "gamma"): (-1.0, 1.5),
    ("sigmoid", "bias"): (-1.0, 1.0),
}
"""Every number that may be a tensor, with the values it takes here."""


def example():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    mask = torch.rand(SHAPE, generator=generator) > 0.2
    mask[0, :, 1] = False
    return scores, mask


def shapes(dim):
    """Everything that broadcasts against the scores with one number along dim."""
    sizes = [(1,) if d == dim % 3 else (1, n) for d, n in enumerate(SHAPE)]
    for whole in itertools.product(*sizes):
        for start in range(4):
            if all(size == 1 for size in whole[:start]):
                yield whole[start:]


def by_loops(name, scores, mask, dim, field, value, given):
    """One row at a time: the parameter's entry is the one that stands where the row does."""
    result, value = torch.zeros_like(scores), value.expand(scores.shape)
    rows, seen, found, numbers = (x.movedim(dim, -1) for x in (scores, mask, result, value))
    for i, j in itertools.product(*map(range, rows.shape[:2])):
        kept = seen[i, j]
        options = {**given, field: float(numbers[i, j, 0])}
        found[i, j, kept] = torch.tensor(
            slow_row(name, rows[i, j, kept].tolist(), **options), dtype=torch.float64
        )
    return result


def test_no_number_that_may_be_a_tensor_is_forgotten_here():
    takes = set()
    for name, config in NORMALIZERS.items():
        for field in vars(config):
            try:
                normalizer_config(name, **{field: torch.tensor(1.5)})
            except WideneckError:
                continue
            takes.add((name, field))
    assert takes == set(RANGES)


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -2, -3])
@pytest.mark.parametrize(("name", "field"), RANGES)
def test_every_form_along_every_dim_is_what_the_loops_say(name, field, dim):
    scores, mask = example()
    low, high = RANGES[name, field]
    given = {k: v for k, v in GIVEN.get(name, {}).items() if k != field}
    for shape in set(shapes(dim)):
        value = torch.linspace(low, high, math.prod(shape), dtype=torch.float64).reshape(shape)
        found = normalize(scores, name, mask, dim=dim, **given, **{field: value})
        slow = by_loops(name, scores, mask, dim, field, value, given)
        assert found.shape == scores.shape
        assert (found - slow).abs().max() < 1e-10, shape


@pytest.mark.parametrize(("name", "field"), RANGES)
def test_a_tensor_of_one_number_is_the_number_in_every_dtype(name, field):
    scores, mask = example()
    number = 1.5 if RANGES[name, field][1] >= 1.5 else 0.5
    given = {k: v for k, v in GIVEN.get(name, {}).items() if k != field}
    expected = normalize(scores.float(), name, mask, dim=0, **given, **{field: number})
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        value = torch.tensor(number, dtype=dtype)
        found = normalize(scores.float(), name, mask, dim=0, **given, **{field: value})
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected)
    for value in (np.float32(number), np.full((1, 1, 1), number)):
        found = normalize(scores.float(), name, mask, dim=0, **given, **{field: value})
        torch.testing.assert_close(found, expected)
    one = normalize(scores, name, mask, **given, **{field: 1})
    other = normalize(scores, name, mask, **given, **{field: torch.tensor(1)})
    torch.testing.assert_close(other, one, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize(("name", "field"), RANGES)
def test_gradients_reach_a_tensor_along_another_dim(name, field, dim):
    scores, mask = example()
    low, high = RANGES[name, field]
    given = {k: v for k, v in GIVEN.get(name, {}).items() if k != field}
    for shape in ((), tuple(1 if d == dim else n for d, n in enumerate(SHAPE)), (4,)):
        value = torch.linspace(low, high, math.prod(shape), dtype=torch.float64).reshape(shape)

        def function(x, v):
            return normalize(x, name, mask, dim=dim, **given, **{field: v})

        inputs = (scores.clone().requires_grad_(), value.clone().requires_grad_())
        assert gradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize(("name", "field"), RANGES)
def test_a_shape_that_is_not_one_number_a_row_is_said_in_one_sentence(name, field):
    scores, _ = example()
    for shape, dim in (((3,), -1), ((4,), -1), ((2, 3, 1), 0), ((5, 1, 1, 1), -1), ((2, 1), 2)):
        with pytest.raises(WideneckError, match=r"takes one number per row for .* got shape"):
            normalize(scores, name, dim=dim, **{field: torch.ones(shape)})
    for wrong in (torch.tensor(True), torch.tensor(1j), object()):
        with pytest.raises(WideneckError, match=f"{name} needs .*{field}"):
            normalize(scores, name, **{field: wrong})


@pytest.mark.parametrize(
    ("name", "field", "bad", "bound"),
    [
        ("entmax", "alpha", 0.5, " >= 1"),
        ("asentmax", "alpha", 0.99, " >= 1"),
        ("temperature", "temperature", 0.0, " > 0"),
        ("temperature", "temperature", -1.0, " > 0"),
        *((name, field, bad, "") for name, field in RANGES for bad in (math.nan, math.inf)),
    ],
)
def test_what_is_refused_as_a_number_is_refused_in_a_tensor(name, field, bad, bound):
    scores, _ = example()
    sentences = []
    wide = torch.float64
    for value in (
        bad,
        torch.tensor(bad, dtype=wide),
        torch.tensor([[1.5], [bad], [1.2]], dtype=wide),
    ):
        with pytest.raises(WideneckError, match=f"needs a finite number{bound}") as caught:
            normalize(scores, name, **{field: value})
        sentences.append(str(caught.value))
    assert len(set(sentences)) == 1


def test_where_nobody_looks_an_alpha_below_1_gives_nan_in_its_rows():
    scores, _ = example()
    alpha = torch.tensor([0.5, 1.0, 2.5], dtype=torch.float64)[:, None]
    for values in (alpha, alpha.clamp(max=1.5)):
        p = entmax(scores, None, values[None])
        assert p[:, 0].isnan().all()
        expected = normalize(scores[:, 1:], "entmax", alpha=values[1:])
        torch.testing.assert_close(p[:, 1:], expected)
    assert entmax(scores, None, torch.full((1, 1, 1), 0.9)).isnan().all()
    seen = torch.func.vmap(lambda row, a: normalize(row, "entmax", alpha=a))(scores[0], alpha)
    assert seen[0].isnan().all()
    torch.testing.assert_close(seen[1:], normalize(scores[0, 1:], "entmax", alpha=alpha[1:]))


def test_a_compiled_graph_takes_a_tensor_along_another_dim():
    scores, _ = example()
    value = torch.linspace(0.5, 2, 4, dtype=torch.float64).requires_grad_()
    torch.compiler.reset()

    def function(x, v):
        return normalize(x, "ssmax", dim=1, scale=v, bias=v[None, None] / 2)

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=False)
    found, expected = compiled(scores, value), function(scores, value)
    torch.testing.assert_close(found, expected)
    ours, theirs = (torch.autograd.grad((x * scores).sum(), value)[0] for x in (found, expected))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("temperature", {"temperature": torch.tensor([[0.3], [2.0], [1.0]])}),
        ("ssmax", {"scale": torch.tensor([[0.3], [2.0], [1.0]]), "bias": torch.tensor(0.3)}),
        ("sink", {"logit": torch.tensor([[0.3], [-2.0], [1.0]])}),
        ("entmax", {"alpha": torch.tensor([[1.2], [2.0], [1.7]])}),
        ("asentmax", {"alpha": torch.tensor([[1.2], [2.0], [1.7]]), "beta": torch.tensor(0.5)}),
        ("sigmoid", {"bias": torch.tensor([[0.3], [-2.0], [1.0]])}),
    ],
)
def test_closed_forms_of_the_jacobian_take_tensors(name, options):
    scores, _ = example()
    config = normalizer_config(name, **{k: v.double() for k, v in options.items()})
    p = config.weights(scores, None)
    found = config.derivative(p, count(scores, None))
    assert found is not None
    s = found.diagonal
    matrix = torch.diag_embed(s) - found.rank_one[..., None, None] * s[..., None] * s[..., None, :]
    full = torch.autograd.functional.jacobian(lambda x: config.weights(x, None), scores)
    exact = torch.stack(
        [full[i, j, :, i, j] for i, j in itertools.product(range(2), range(3))]
    ).view(2, 3, 4, 4)
    assert (found.factor[..., None, None] * matrix - exact).abs().max() < 1e-12
    norms = torch.linalg.matrix_norm(exact, 2)
    limit = config.largest_norm(4)
    assert norms.max() <= limit * (1 + 1e-9)
    each = []
    for row in range(3):
        one = {k: float(v.expand(3, 1)[row]) for k, v in options.items()}
        each.append(normalizer_config(name, **one).largest_norm(4))
    assert limit == pytest.approx(max(each), rel=1e-6)


def test_a_saved_config_holds_single_numbers_and_a_sink_one_of_each_head():
    assert to_dict(normalizer_config("ssmax", scale=torch.tensor([[0.5]])))["scale"] == 0.5
    with pytest.raises(WideneckError, match=r"scale of ssmax is a tensor of shape \(4, 1, 1\)"):
        to_dict(normalizer_config("ssmax", scale=torch.ones(4, 1, 1)))
    with pytest.raises(WideneckError, match=r"slope of gss is a tensor of shape \(2,\)"):
        heads.to_dict(heads.GSS(slope=torch.ones(2)))
    query = torch.zeros(1, 4, 3, 2)
    with pytest.raises(WideneckError, match="one logit for each of 4 heads, got 3"):
        sink_attention(query, query, query, torch.zeros(3))
