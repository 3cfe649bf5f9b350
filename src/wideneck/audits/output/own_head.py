"""The output section for a head of wideneck that is more than one softmax of a matrix's scores.

The loss and the rank of the log-probabilities are measured of any head; the rest of the section is
of one vector of scores under a softmax.
"""

import math
from dataclasses import fields

import torch

from wideneck.audits.clock import Clock
from wideneck.audits.measured import UnmeasurableError, measured, unknown
from wideneck.audits.output.head_ranks import log_prob_ranks
from wideneck.audits.output.log_prob_rank import CONTEXTS, LogProbRank
from wideneck.audits.output.rank_cost import RankCost
from wideneck.audits.output.section import LogitMapMeasured, OutputAudit, audit_output
from wideneck.audits.output.summary import Gradient, Logits, loss_over_text
from wideneck.audits.states import HiddenStates, Progress
from wideneck.audits.subject import Subject
from wideneck.config import name_of
from wideneck.heads import Head
from wideneck.models import evaluating

CHUNK = 1024
"""Tokens whose loss is computed at a time."""


def section(subject: Subject) -> OutputAudit | None:
    """Section "output" of a subject; None, and a note, where its numbers do not allow it."""
    head, own, states, clock = subject.head, subject.own_head, subject.states, subject.clock
    logit_map, progress = subject.logit_map, subject.progress
    if states is None or logit_map is None:
        return None

    def audit() -> OutputAudit:
        if own is None or head.form.is_one_softmax:
            return audit_output(head, logit_map, states, clock, progress=progress)
        return audit_own_head(own, states, clock, progress=progress)

    return subject.measured("the output layer on the text", audit)


@torch.no_grad()
def audit_own_head(
    head: Head, states: HiddenStates, clock: Clock, *, progress: Progress | None = None
) -> OutputAudit:
    """Measure the head on the states that the model sends into it.

    Cost: as `Head.nll` over all tokens, and as `log_prob_ranks` over 2,048 contexts.

    Raises:
        UnmeasurableError: its log-probabilities are not those that the model gave.
    """
    num_windows, window, hidden_size = states.hidden.shape
    name, num_tokens = name_of(head.config), num_windows * window
    device = head.weight.device
    hidden = states.hidden.flatten(0, 1).to(device, head.weight.dtype)
    targets = states.targets.flatten().to(device)
    notes = [
        f"Not measured of a {name} head: size and spread of the scores, share of the logit "
        "gradient and nats lost at rank r, which this section knows of a softmax on hidden states "
        "alone."
    ]
    with evaluating(head), clock("loss"):
        _check(head, states)
        parts = zip(hidden.split(CHUNK), targets.split(CHUNK), strict=True)
        nll = torch.cat([head.nll(x, y).float().cpu() for x, y in parts])
    with clock("rank of log-probabilities"):
        pick = torch.linspace(0, num_tokens - 1, min(num_tokens, CONTEXTS)).round().long()
        rank = measured(
            "the rank of the log-probabilities",
            lambda: _rank(head, hidden[pick.to(device)], progress),
            unknown(LogProbRank, num_contexts=len(pick)),
            notes,
        )
    return OutputAudit(
        hidden_size=hidden_size,
        num_tokens=num_tokens,
        num_documents=len(states.document.unique()),
        window=window,
        logit_map=LogitMapMeasured(kind="identity", scale=1.0, cap=None),
        loss=loss_over_text(nll.view(num_windows, window), states, head.vocab_size),
        logits=unknown(Logits),
        anisotropy=states.anisotropy,
        rank=rank,
        rank_cost=unknown(
            RankCost, skipped=f"all: a {name} head is no single softmax of the hidden states"
        ),
        gradient=unknown(Gradient),
        notes=notes,
    )


def _check(head: Head, states: HiddenStates) -> None:
    hidden, given = states.probe
    own = head.log_probs(hidden.to(head.weight.device, head.weight.dtype)).cpu().double()
    given = given.cpu()
    off = (own - given.double()).abs().max().item()
    rounding = max(1e-3, 4 * torch.finfo(head.weight.dtype).eps)
    if not off <= rounding * max(1.0, given.double().abs().max().item()):
        raise UnmeasurableError(
            f"The {name_of(head.config)} head does not give the model's own log-probabilities (off "
            f"by {off:.3g})."
        )


def _rank(head: Head, contexts: torch.Tensor, progress: Progress | None) -> LogProbRank:
    found = log_prob_ranks(head, contexts, num_contexts=len(contexts), progress=progress)
    if not math.isfinite(found.press_tolerance):
        raise UnmeasurableError("some log-probabilities are not finite")
    kept = {field.name: getattr(found, field.name) for field in fields(LogProbRank)}
    kept["bound"] = found.bound if head.config.linear else None
    kept["singular_values"] = found.singular_values[: head.hidden_size + 8]
    return LogProbRank(**kept)
