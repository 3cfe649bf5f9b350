"""Divergence from a teacher and soft targets against torch's formulas in float64."""

import math

import pytest
import torch

import wideneck.functional as fn
from functional.fused_examples import ACTIVATIONS, inputs, learned, leaves
from functional.teacher_examples import (
    divergence_of,
    log_probs_of,
    soft_targets,
    teacher_inputs,
)
from functional.token_examples import ALL, dense
from wideneck.errors import WideneckError
from wideneck.functional import token_block

N, V = 7, 11
TEMPERATURES = {"hot": 1.8, "one": 1.0, "by token": torch.linspace(0.5, 1.7, N)}
BETAS = (0.0, 1.0, 0.3)
LEARNED = ("divergence", "cross_entropy")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def twin(example, activation, teacher, teacher_kind, soft, temperature, beta):
    kept = example["target"] != -100
    log_s = log_probs_of(example, activation, temperature)
    log_t = log_probs_of(teacher, teacher_kind, temperature)
    apart = divergence_of(log_s, log_t, beta)
    cross = -(soft["soft_probs"] * log_s.gather(-1, soft["soft_ids"])).sum(-1)
    return torch.where(kept, apart, 0), torch.where(kept, cross, 0)


@pytest.mark.parametrize(("beta", "temperature"), list(zip(BETAS, TEMPERATURES, strict=True)))
@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_equals_the_formula_with_all_gradients(kind, mixture, temperature, beta):
    T = TEMPERATURES[temperature]
    example, activation = inputs(mixture), ACTIVATIONS[kind]()
    teacher, soft = teacher_inputs(not mixture), soft_targets()
    got = fn.linear_token_outputs(
        **example, **soft, activation=activation, temperature=T, beta=beta, chunk_size=3,
        teacher=fn.Teacher(**teacher, activation="sigsoftmax"), outputs=(*ALL, *LEARNED),
    )  # fmt: skip
    want = twin(example, activation, teacher, "sigsoftmax", soft, T, beta)
    others = dense(**example, activation=activation, temperature=T)
    torch.testing.assert_close((got.divergence, got.cross_entropy), want)
    torch.testing.assert_close(got.entropy, others.entropy)
    parameters, up = leaves(example) + learned(activation), torch.randn(4, N).double()
    ours = [got.divergence, got.cross_entropy, got.log_prob, got.entropy]
    theirs = [*want, others.log_prob, others.entropy]
    for chosen in ([0], [1], [0, 1, 2, 3]):
        mine, exact = (
            torch.autograd.grad(
                sum((x[i] * up[i]).sum() for i in chosen), parameters, retain_graph=True
            )
            for x in (ours, theirs)
        )
        torch.testing.assert_close(mine, exact)


@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("kind", ["softmax", "gss", "plif"])
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_the_loss_is_the_reduced_divergence(reduction, beta, kind, mixture):
    example, activation = inputs(mixture), ACTIVATIONS[kind]()
    kept, teacher = example.pop("target") != -100, teacher_inputs(True)
    options = {"beta": beta, "temperature": 1.3, "mask": kept, "activation": activation}
    log_t = log_probs_of(teacher, "softmax")
    want = divergence_of(
        log_probs_of(example, activation, 1.3), (log_t / 1.3).log_softmax(-1), beta
    ) * kept  # fmt: skip
    want = {"mean": want.sum() / kept.sum(), "sum": want.sum(), "none": want}[reduction]
    parameters = leaves(example) + learned(activation)
    up = torch.randn(want.shape).double()
    theirs = torch.autograd.grad((want * up).sum(), parameters, retain_graph=True)
    for given in (fn.Teacher(**teacher), log_t):
        got = fn.linear_divergence(
            **example, **options, teacher=given, reduction=reduction, chunk_size=3
        )
        torch.testing.assert_close(got, want)
        for _ in range(2):  # a retained graph: the gradients are computed again
            ours = torch.autograd.grad((got * up).sum(), parameters, retain_graph=True)
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_gradients_are_those_of_differences(kind, mixture):
    example, activation = inputs(mixture, N=3, K=2, D=3, V=5), ACTIVATIONS[kind]()
    target, soft = example.pop("target"), soft_targets(N=3, M=2, V=5)
    names = [name for name, value in example.items() if value is not None]
    teacher = fn.Teacher(**teacher_inputs(N=3, D=2, V=5))

    def found(*tensors):
        given = dict(zip(names, tensors[: len(names)], strict=True))
        told = fn.linear_token_outputs(
            **given, target=target, **soft, activation=activation, temperature=1.4, beta=0.6,
            teacher=teacher, outputs=LEARNED, chunk_size=4,
        )  # fmt: skip
        return told.divergence, told.cross_entropy

    tensors = [example[name] for name in names] + learned(activation)
    assert torch.autograd.gradcheck(found, tensors)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("kind", ACTIVATIONS)
@pytest.mark.parametrize("mixture", [False, True])
def test_a_teacher_that_is_the_student_is_at_no_distance(mixture, kind, beta):
    example, activation = inputs(mixture, dtype=torch.float32), ACTIVATIONS[kind]()
    example.pop("target")
    same = fn.Teacher(**example, activation=activation)
    apart = fn.linear_divergence(
        **example, activation=activation, teacher=same, beta=beta, reduction="sum"
    )
    assert apart.item() == pytest.approx(0, abs=0 if beta in (0, 1) else 2e-6)
    for gradient in torch.autograd.grad(apart, leaves(example)):
        assert gradient.abs().max() <= 2e-6


def test_equals_torch_for_a_plain_softmax():
    """And for an alike teacher of other size: no formula of ours in the twin."""
    student, teacher = inputs(False, bias=False), teacher_inputs()
    z = student["input"] @ student["linear_weight"].T
    t = teacher["input"] @ teacher["linear_weight"].T + teacher["linear_bias"]
    log_s, log_t = (z / 2).log_softmax(-1), (t / 2).log_softmax(-1)
    given = {"temperature": 2.0, "reduction": "mean", "teacher": fn.Teacher(**teacher)}
    got = fn.linear_divergence(student["input"], student["linear_weight"], **given)
    want = torch.nn.functional.kl_div(log_s, log_t, reduction="batchmean", log_target=True)
    torch.testing.assert_close(got, want)
    reverse = fn.linear_divergence(student["input"], student["linear_weight"], beta=1.0, **given)
    want = torch.nn.functional.kl_div(log_t, log_s, reduction="batchmean", log_target=True)
    torch.testing.assert_close(reverse, want)
    soft, target = soft_targets(), student["target"]
    got = fn.linear_token_outputs(
        student["input"], student["linear_weight"], target, **soft, outputs=("cross_entropy",)
    ).cross_entropy
    dense_probs = torch.zeros(N, V).double().scatter_add_(1, soft["soft_ids"], soft["soft_probs"])
    want = torch.nn.functional.cross_entropy(z, dense_probs, reduction="none")
    torch.testing.assert_close(got, want * (target != -100))
    loss = fn.linear_cross_entropy(
        student["input"], student["linear_weight"], soft["soft_probs"],
        target_ids=soft["soft_ids"], reduction="none",
    )  # fmt: skip
    torch.testing.assert_close(got, loss * (target != -100))


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("kind", ["softmax", "sigsoftmax", "sigmoid"])
@pytest.mark.parametrize("temperature", [1.0, 6.0])
def test_probabilities_too_small_for_a_number(temperature, kind, mixture, beta):
    """Float32, with log-probabilities down to some -1000 on either side."""
    low, teacher = inputs(mixture, dtype=torch.float32), teacher_inputs(True, dtype=torch.float32)
    low["input"] = (low["input"].detach() * 100).requires_grad_()
    low.pop("target")
    teacher["input"] = teacher["input"] * 100
    high = {k: None if v is None else v.detach().double().requires_grad_() for k, v in low.items()}
    exact = {k: None if v is None else v.double() for k, v in teacher.items()}
    got = fn.linear_divergence(
        **low, teacher=fn.Teacher(**teacher), activation=kind, beta=beta, reduction="none",
        temperature=temperature,
    )  # fmt: skip
    want = divergence_of(
        log_probs_of(high, kind, temperature), log_probs_of(exact, "softmax", temperature), beta
    )
    if beta == 0.3:  # where both are 0 the twin has NaN
        want = _jsd(
            log_probs_of(high, kind, temperature), log_probs_of(exact, "softmax", temperature)
        )
    torch.testing.assert_close(got.double(), want, rtol=2e-5, atol=2e-4)
    up = torch.randn(N)
    ours = torch.autograd.grad((got * up).sum(), leaves(low))
    theirs = torch.autograd.grad((want * up.double()).sum(), leaves(high))
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.double() - other).abs().max() < 2e-3 * other.abs().max().clamp(min=1e-2)


def _jsd(log_s, log_t, beta=0.3):
    """As TRL writes it, which stays a number."""
    ways = torch.stack([log_s + math.log(1 - beta), log_t + math.log(beta)])
    log_m = torch.logsumexp(ways, 0)
    of_t = (log_t.exp() * (log_t - log_m)).sum(-1)
    return beta * of_t + (1 - beta) * (log_s.exp() * (log_s - log_m)).sum(-1)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("mixture", [False, True])
def test_blocks_and_chunks_change_nothing(monkeypatch, mixture, beta):
    example = inputs(mixture, N=23, V=50)
    example.pop("target")
    teacher = fn.Teacher(**teacher_inputs(not mixture, N=23, V=50))
    options = {"teacher": teacher, "beta": beta, "activation": "sigsoftmax"}
    want = fn.linear_divergence(**example, **options)
    gradients = torch.autograd.grad(want, leaves(example))
    for name in ("BLOCK", "MIXTURE_BLOCK"):  # one token a block
        monkeypatch.setattr(token_block, name, 1)
    got = fn.linear_divergence(**example, **options, chunk_size=5)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(torch.autograd.grad(got, leaves(example)), gradients)


def test_divergence_is_never_negative_and_bounded_where_the_mixture_is_between():
    example, teacher = inputs(False, dtype=torch.float32), teacher_inputs(dtype=torch.float32)
    example.pop("target")
    for beta in (0.0, 0.25, 0.5, 0.75, 1.0):
        apart = fn.linear_divergence(
            **example, teacher=fn.Teacher(**teacher), beta=beta, reduction="none"
        )
        assert (apart >= 0).all()
        if 0 < beta < 1:  # the entropy of which of the two a token came from
            limit = -beta * math.log(beta) - (1 - beta) * math.log(1 - beta)
            assert (apart <= limit).all()


def test_a_teacher_may_rule_tokens_out():
    example, log_t = inputs(False), log_probs_of(teacher_inputs(), "softmax")
    example.pop("target")
    log_t[:, 3] = -torch.inf
    log_t = log_t.log_softmax(-1)
    for beta in (0.0, 0.5):
        apart = fn.linear_divergence(**example, teacher=log_t, beta=beta)
        assert apart.isfinite()
        assert all(g.isfinite().all() for g in torch.autograd.grad(apart, leaves(example)))
    assert fn.linear_divergence(**example, teacher=log_t, beta=1.0) > 1e20


@pytest.mark.parametrize("mixture", [False, True])
def test_without_a_token_all_is_zero(mixture):
    example = inputs(mixture)
    example.pop("target")
    nothing = torch.zeros(N, dtype=torch.bool)
    teacher = fn.Teacher(**teacher_inputs())
    for reduction in ("mean", "sum", "none"):
        got = fn.linear_divergence(**example, teacher=teacher, mask=nothing, reduction=reduction)
        assert not got.any()
        for gradient in torch.autograd.grad(got.sum(), leaves(example)):
            assert not gradient.any()


def test_the_teacher_gets_no_gradient():
    example, teacher = inputs(False), teacher_inputs()
    example.pop("target")
    teacher["linear_weight"].requires_grad_()
    loss = fn.linear_divergence(**example, teacher=fn.Teacher(**teacher))
    loss.backward()
    assert teacher["linear_weight"].grad is None


def test_narrow_numbers_are_computed_in_float32():
    low = {k: v for k, v in inputs(True, dtype=torch.float32).items() if k != "target"}
    low = {k: v.detach().bfloat16().requires_grad_() for k, v in low.items()}
    teacher = {k: None if v is None else v.bfloat16() for k, v in teacher_inputs().items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = fn.linear_divergence(**low, teacher=fn.Teacher(**teacher))
    assert got.dtype == torch.float32
    high = {k: v.double() for k, v in low.items()}
    exact = {k: None if v is None else v.double() for k, v in teacher.items()}
    want = divergence_of(log_probs_of(high), log_probs_of(exact)).mean()
    torch.testing.assert_close(got.double(), want, rtol=0, atol=1e-5)
    got.backward()
    assert low["linear_weight"].grad.dtype == torch.bfloat16


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch's tracer looks at it
@pytest.mark.parametrize("outputs", [False, True])
def test_goes_through_compile_with_a_break(outputs):
    example = inputs(False)
    target = example.pop("target")
    teacher = fn.Teacher(**teacher_inputs())

    def step(x):
        given = {**example, "input": x.tanh(), "teacher": teacher}
        if outputs:
            told = fn.linear_token_outputs(**given, target=target, outputs=("divergence", "top1"))
            return told.divergence.sum() * 2
        return fn.linear_divergence(**given) * 2

    want, got = step(example["input"]), torch.compile(step, backend="eager")(example["input"])
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(
        torch.autograd.grad(got, leaves(example)), torch.autograd.grad(want, leaves(example))
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"outputs": ("divergence",)}, "takes a teacher"),
        ({"outputs": ("log_prob",), "teacher": torch.zeros(N, V)}, "takes a teacher"),
        ({"outputs": ("cross_entropy",)}, "takes soft_ids and soft_probs"),
        ({"outputs": ("divergence",), "teacher": torch.zeros(N, V + 1)}, "of shape (7, 11)"),
        ({"outputs": ("divergence",), "teacher": "gpt2"}, "got a str"),
        ({"outputs": ("divergence",), "teacher": torch.zeros(N, V), "beta": 1.5}, "lie in [0, 1]"),
        (
            {"outputs": ("cross_entropy",), "soft_ids": torch.full((N, 1), V),
             "soft_probs": torch.ones(N, 1)}, "in [0, 11), got 11",
        ),
        (
            {"outputs": ("cross_entropy",), "soft_ids": torch.zeros(N, 2).long(),
             "soft_probs": torch.ones(N, 1)}, "must have shape",
        ),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(options, said):
    with pytest.raises(WideneckError) as caught:
        fn.linear_token_outputs(**inputs(False), **options)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"linear_weight": torch.zeros(V + 1, 4).double(), "linear_bias": None},
            "teacher's 12",
        ),
        ({"input": torch.zeros(N, 3).double()}, "Of the teacher: Hidden states"),
    ],
)
def test_mistakes_of_the_teacher_are_one_sentence(changed, said):
    example = inputs(False)
    example.pop("target")
    with pytest.raises(WideneckError) as caught:
        fn.linear_divergence(**example, teacher=fn.Teacher(**{**teacher_inputs(), **changed}))
    assert said in str(caught.value)


def test_other_derivatives_are_refused():
    example = inputs(False)
    example.pop("target")
    loss = fn.linear_divergence(**example, teacher=fn.Teacher(**teacher_inputs()))
    (first,) = torch.autograd.grad(loss, example["input"], create_graph=True)
    with pytest.raises(WideneckError, match="no second derivative"):
        first.sum().backward()
    with pytest.raises(WideneckError, match="mask must be bool"):
        fn.linear_divergence(**example, teacher=fn.Teacher(**teacher_inputs()), mask=torch.zeros(N))
