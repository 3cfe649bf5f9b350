"""Attention with a sink against a float64 twin that forms every score, forward and backward."""

import pytest
import torch

from wideneck.attention.config import Sink
from wideneck.attention.sink_attention import sink_attention

B, H, Q, D = 2, 4, 37, 8


def inputs(dtype=torch.float32, size=1.0, groups=1):
    generator = torch.Generator().manual_seed(0)
    shapes = [(B, H, Q, D), (B, H // groups, Q, D), (B, H // groups, Q, D)]
    made = [(size * torch.randn(shape, generator=generator)).to(dtype) for shape in shapes]
    made.append(torch.tensor([0.0, -3.0, 2.0, 0.5]).reshape(H, 1, 1))
    return [x.requires_grad_() for x in made]


def masks():
    causal = torch.ones(Q, Q, dtype=torch.bool).tril()
    padded = causal.expand(B, 1, Q, Q).clone()
    padded[0, ..., :5] = False  # its first five queries see nothing
    per_head = torch.rand(B, H, Q, Q, generator=torch.Generator().manual_seed(1)) < 0.3
    return {"none": None, "causal": causal, "padded": padded, "per head": per_head}


def dense(query, key, value, logit, mask=None, is_causal=False, scaling=D**-0.5):
    query, key, value, logit = (x.double() for x in (query, key, value, logit))
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    if is_causal:
        mask = masks()["causal"]
    return Sink(logit=logit).weights(query @ key.mT * scaling, mask) @ value


def check(found, expected, given, rtol, atol):
    """The output and the gradients of all four inputs."""
    torch.testing.assert_close(found.double(), expected, rtol=rtol, atol=atol)
    upstream = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    ours = torch.autograd.grad(found, given, upstream.to(found.dtype))
    theirs = torch.autograd.grad(expected, given, upstream.double())
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == other.dtype
        bound = atol + rtol * float(other.abs().max())
        torch.testing.assert_close(mine, other, rtol=rtol, atol=bound)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("name", masks())
def test_masks_give_the_dense_output_and_gradients(name, groups):
    given, mask = inputs(groups=groups), masks()[name]
    check(sink_attention(*given, mask), dense(*given, mask), given, 1e-5, 1e-5)


@pytest.mark.parametrize("scaling", [None, 0.7])
def test_causal_calls_need_no_mask(scaling):
    given = inputs()
    expected = dense(*given, is_causal=True, scaling=scaling or D**-0.5)
    check(sink_attention(*given, is_causal=True, scaling=scaling), expected, given, 1e-5, 1e-5)


@pytest.mark.parametrize("size", [1e-3, 6.0, 20.0])
def test_large_and_small_scores_keep_their_gradients(size):
    given = inputs(size=size)
    expected = dense(*given, is_causal=True)
    check(sink_attention(*given, is_causal=True), expected, given, 1e-3, 1e-4)


@pytest.mark.parametrize("logit", [-1e4, -30.0, 30.0, 1e4])
def test_extreme_sinks_are_a_softmax_or_nothing(logit):
    given = [*inputs()[:3], torch.full((H, 1, 1), logit, requires_grad=True)]
    found = sink_attention(*given, is_causal=True)
    check(found, dense(*given, is_causal=True), given, 1e-5, 1e-5)
    plain = torch.nn.functional.scaled_dot_product_attention(*given[:3], is_causal=True)
    torch.testing.assert_close(found, plain if logit < 0 else torch.zeros_like(plain))


def test_float64_is_computed_in_float64():
    given = inputs(torch.float64)
    check(sink_attention(*given, is_causal=True), dense(*given, is_causal=True), given, 1e-6, 1e-7)


@pytest.mark.parametrize("name", ["none", "padded"])
def test_bfloat16_is_as_near_as_its_rounding(name):
    given, mask = inputs(torch.bfloat16), masks()[name]
    check(sink_attention(*given, mask), dense(*given, mask), given, 2e-2, 2e-2)


def test_queries_that_see_nothing_give_zeros_and_pass_no_gradient():
    query, key, value, logit = inputs()
    mask = masks()["padded"]
    out = sink_attention(query, key, value, logit, mask)
    assert torch.equal(out[0, :, :5], torch.zeros(H, 5, D))
    grads = torch.autograd.grad(out.square().sum() + out.sum(), (query, key, value, logit))
    assert all(x.isfinite().all() for x in grads)
    assert torch.equal(grads[0][0, :, :5], torch.zeros(H, 5, D))
    assert torch.equal(grads[2][0, :, :5], torch.zeros(H, 5, D))


def test_a_number_is_the_same_sink_for_every_head():
    query, key, value, _ = inputs()
    logits = torch.full((H, 1, 1), 0.5)
    found = sink_attention(query, key, value, 0.5, is_causal=True)
    torch.testing.assert_close(found, sink_attention(query, key, value, logits, is_causal=True))


@pytest.mark.parametrize("name", ["none", "padded", "per head"])
def test_values_of_another_width_give_the_dense_output_and_gradients(name):
    query, key, value, logit = inputs(groups=2)
    wide = torch.cat([value, value[..., :3]], -1).detach().requires_grad_()
    given = [query, key, wide, logit]
    check(sink_attention(*given, masks()[name]), dense(*given, masks()[name]), given, 1e-5, 1e-5)
    check(sink_attention(*given, is_causal=True), dense(*given, is_causal=True), given, 1e-5, 1e-5)


def test_dropout_leaves_the_mean_and_a_share_of_the_weights():
    query, key, value, logit = inputs()
    torch.manual_seed(0)
    one = [x[:1, :, :1].detach().expand(4000, -1, -1, -1) for x in (query, key, value)]
    runs = sink_attention(*one, logit.detach(), dropout=0.3)[:, :, 0, 0]
    kept = runs / dense(*(x[:1] for x in one), logit.detach())[0, :, 0, 0]
    assert ((kept == 0) | ((kept - 1 / 0.7).abs() < 1e-5)).all()
    assert ((kept == 0).double().mean(0) - 0.3).abs().max() < 0.03  # four standard errors


@pytest.mark.parametrize("name", masks())
def test_with_dropout_the_same_scores_are_formed(name, monkeypatch):
    """By the route of one more key, of which nothing is dropped here."""
    given, mask = inputs(groups=2), masks()[name]
    original = torch.nn.functional.scaled_dot_product_attention

    def whole(*args, dropout_p, **options):
        assert dropout_p == 0.3
        return original(*args, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", whole)
    found = sink_attention(*given, mask, scaling=0.7, dropout=0.3)
    check(found, dense(*given, mask, scaling=0.7), given, 1e-5, 1e-5)
    if mask is None:
        found = sink_attention(*given, is_causal=True, dropout=0.3)
        check(found, dense(*given, is_causal=True), given, 1e-5, 1e-5)


def test_the_second_derivative_is_refused_and_not_wrong():
    query, key, value, logit = inputs()
    out = sink_attention(query, key, value, logit, is_causal=True)
    (grad,) = torch.autograd.grad(out.square().sum(), query, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_one_query_at_a_time_gives_the_whole():
    query, key, value, logit = inputs()
    whole = sink_attention(query, key, value, logit, is_causal=True)
    rows = [
        sink_attention(query[:, :, i : i + 1], key[:, :, : i + 1], value[:, :, : i + 1], logit)
        for i in range(Q)
    ]
    torch.testing.assert_close(torch.cat(rows, 2), whole)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_numbers_of_a_row_need_not_lie_side_by_side(which):
    """PyTorch's kernel on a CPU reads other memory then, and says nothing."""
    given = inputs(groups=2)
    given[which] = given[which].detach().mT.contiguous().mT.requires_grad_()
    assert given[which].stride(-1) != 1
    check(sink_attention(*given), dense(*given), given, 1e-5, 1e-5)
    every_other = given[which].detach().repeat_interleave(2, -1)[..., ::2].requires_grad_()
    given[which] = every_other
    check(sink_attention(*given), dense(*given), given, 1e-5, 1e-5)


@pytest.mark.parametrize("shape", [(Q,), (B, 1, 1, Q), (1, H, 1, Q)])
def test_one_mask_for_all_queries_will_do_with_dropout_too(shape):
    given, mask = inputs(), torch.rand(shape, generator=torch.Generator().manual_seed(3)) < 0.7
    for dropout in (0.0, 1e-12):  # which adds a key, and drops nothing
        found = sink_attention(*given, mask, dropout=dropout)
        check(found, dense(*given, mask), given, 1e-5, 1e-5)
