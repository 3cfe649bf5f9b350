"""Heads that learn from other heads, and from their own log-probabilities."""

import pytest
import torch

import wideneck as wn
from functional.teacher_examples import divergence_of

V = 13
PAIRS = [("softmax", "moss"), ("moss", "softmax"), ("low_rank", "sigsoftmax"), ("moc", "gss")]


def built(name, hidden_size):
    options = {"rank": 3} if name == "low_rank" else {}
    head = wn.heads.build(name, hidden_size=hidden_size, vocab_size=V, **options).double()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return head


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(("student", "teacher"), PAIRS)
def test_a_head_learns_from_another(student, teacher, beta):
    torch.manual_seed(0)
    student, teacher = built(student, 6), built(teacher, 4)
    hidden, shown = torch.randn(2, 5, 6).double(), torch.randn(2, 5, 4).double()
    mask = torch.rand(2, 5) > 0.3
    lesson = teacher.as_teacher(shown)
    got = student.divergence(hidden, lesson, beta=beta, mask=mask)
    each = divergence_of(student.log_probs(hidden), teacher.log_probs(shown).detach(), beta)
    want = each[mask].mean()
    torch.testing.assert_close(got, want)
    told = student.token_outputs(
        hidden, mask.long() * 101 - 100, ("divergence", "log_prob"), teacher=lesson, beta=beta
    )
    torch.testing.assert_close(told.divergence, each * mask)
    parameters = list(student.parameters())
    theirs = torch.autograd.grad(want, parameters, allow_unused=True)
    ours = torch.autograd.grad(got, parameters, allow_unused=True)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-10, rtol=1e-6)
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize("kind", ["softmax", "moss", "low_rank"])
def test_a_loss_of_the_own_log_probability(kind):
    torch.manual_seed(0)
    head, hidden = built(kind, 6), torch.randn(2, 5, 6).double()
    target = torch.randint(V, (2, 5))
    target[0, 0] = -100

    def loss(log_prob, advantage):
        return -log_prob.exp() * advantage

    advantage = torch.randn(2, 5).double()
    got, log_prob = head.log_prob_loss(hidden, target, loss, advantage)
    log_p = -head.nll(hidden, target)
    torch.testing.assert_close(log_prob, log_p.detach())
    want = loss(log_p, advantage)[target != -100].mean()
    torch.testing.assert_close(got, want)
    ours = torch.autograd.grad(got, list(head.parameters()), allow_unused=True)
    theirs = torch.autograd.grad(want, list(head.parameters()), allow_unused=True)
    torch.testing.assert_close(ours, theirs)


def test_distillation_brings_a_student_to_its_teacher():
    torch.manual_seed(0)
    teacher, student = built("softmax", 6), built("sigsoftmax", 6)
    hidden = torch.randn(256, 6).double()
    optimizer = torch.optim.Adam(student.parameters(), lr=0.05)
    lesson = teacher.as_teacher(hidden)
    start = student.divergence(hidden, lesson).item()
    for _ in range(200):
        optimizer.zero_grad()
        loss = student.divergence(hidden, lesson)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05 * start
