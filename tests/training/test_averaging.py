"""Averages of iterates against torch's own, and when they start."""

import pytest
import torch

from wideneck.training.averaging import Averaging
from wideneck.training.loop import non_monotone

STEPS, LR = 12, 0.125


def parameter(dtype):
    torch.manual_seed(0)
    return torch.nn.Parameter(torch.randn(7, 5, dtype=dtype))


def steps(optimizer, p):
    """The same gradients for all: those of a quadratic bowl and noise."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        p.grad = p.detach() + torch.randn(p.shape, generator=generator, dtype=p.dtype)
        yield
        optimizer.step()


def averaged(start, dtype):
    """The parameter after all steps, its mean from the step after `start` on."""
    p = parameter(dtype)
    averaging = Averaging([("p", p)])
    optimizer = torch.optim.SGD([p], lr=LR, weight_decay=1e-2)
    for number, _ in enumerate(steps(optimizer, p)):
        if number > start:
            averaging.update()
        if number == start:
            averaging.start()
    averaging.update()
    return p, averaging


@pytest.mark.parametrize("start", [1, 4, 11])
def test_the_mean_is_that_of_asgd(start):
    p = parameter(torch.float64)
    theirs = torch.optim.ASGD([p], lr=LR, lambd=0, alpha=0.3, t0=start - 1, weight_decay=1e-2)
    for _ in steps(theirs, p):
        pass
    q, ours = averaged(start, torch.float64)
    assert torch.allclose(p, q, rtol=0, atol=1e-14)
    # torch holds the 1 / k of ASGD in float32.
    assert torch.allclose(ours.means["p"], theirs.state[p]["ax"], rtol=0, atol=1e-7)


@pytest.mark.parametrize("start", [0, 4])
def test_in_float32_the_mean_is_no_worse_than_asgds(start):
    p = parameter(torch.float32)
    theirs = torch.optim.ASGD([p], lr=LR, lambd=0, t0=start - 1, weight_decay=1e-2)
    iterates = []
    for _ in steps(theirs, p):
        iterates.append(p.detach().double().clone())
    iterates = [*iterates[start + 1 :], p.detach().double()]
    exact = torch.stack(iterates).mean(0)
    _, ours = averaged(start, torch.float32)
    error = (ours.means["p"] - exact).abs().max()
    assert error <= 2 * (theirs.state[p]["ax"] - exact).abs().max()


def test_before_the_first_update_the_mean_is_the_parameters():
    p = parameter(torch.float32)
    averaging = Averaging([("p", p)])
    assert not averaging.started
    averaging.start()
    assert averaging.started
    assert torch.equal(averaging.means["p"], p)


def test_the_first_update_is_the_parameters_to_the_bit():
    _, averaging = averaged(STEPS - 1, torch.float32)
    p, _ = averaged(STEPS - 1, torch.float32)
    assert torch.equal(averaging.means["p"], p)


def test_swapped_puts_the_means_in_place_and_takes_them_out_again():
    p, averaging = averaged(3, torch.float32)
    before, mean = p.detach().clone(), averaging.means["p"].clone()
    place = p.data_ptr()
    for _ in range(2):
        with averaging.swapped():
            assert torch.equal(p, mean)
            assert p.data_ptr() == place
        assert torch.equal(p, before)
        assert torch.equal(averaging.means["p"], mean)


def test_swapped_restores_after_an_error_too():
    p, averaging = averaged(3, torch.float32)
    before = p.detach().clone()
    with pytest.raises(KeyError), averaging.swapped():
        raise KeyError
    assert torch.equal(p, before)


def test_swapped_does_nothing_before_the_start():
    p = parameter(torch.float32)
    before = p.detach().clone()
    with Averaging([("p", p)]).swapped():
        assert torch.equal(p, before)


def test_frozen_parameters_are_left_alone():
    p = parameter(torch.float32).requires_grad_(False)
    averaging = Averaging([("p", p)])
    averaging.start()
    assert averaging.means == {}


def awd_lstm_lm(losses, interval):
    """The evaluation after which salesforce/awd-lstm-lm switches to ASGD; None for never."""
    best_val_loss = []
    for number, val_loss in enumerate(losses):
        if len(best_val_loss) > interval and val_loss > min(best_val_loss[:-interval]):
            return number
        best_val_loss.append(val_loss)
    return None


def ours(losses, interval):
    return next(
        (n for n in range(len(losses)) if non_monotone(losses[: n + 1], interval)),
        None,
    )


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([5, 4, 3, 2, 1], None),
        # Of 4, 3 before the last two: the 3.5 is worse than 3.
        ([4, 3, 3.2, 3.3, 3.5], 4),
        # The 3 does not count until two more have come.
        ([5, 4, 3, 3.5], None),
        ([5, 4, 3, 3.5, 3.6, 3.4], 5),
        ([1, 2, 3], None),
        ([1, 2, 3, 4], 3),
    ],
)
def test_averaging_starts_by_the_non_monotone_rule(losses, expected):
    assert ours(losses, 2) == expected == awd_lstm_lm(losses, 2)


def test_averaging_starts_where_awd_lstm_lm_starts_it():
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        falling = torch.linspace(3, 1, 30) + 0.1 * torch.randn(30, generator=generator)
        for interval in (1, 3, 5):
            losses = falling.tolist()
            assert ours(losses, interval) == awd_lstm_lm(losses, interval)


def test_an_interval_of_zero_never_starts_it():
    assert ours([1.0, 2.0, 3.0, 4.0], 0) is None
