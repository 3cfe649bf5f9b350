"""Section "output": what the output layer does on a text."""

from dataclasses import dataclass

import torch

from wideneck.audits.clock import Clock
from wideneck.audits.measure import measure
from wideneck.audits.measured import measured, unknown
from wideneck.audits.output.in_doubt import SOFT_CAP, InDoubt, in_doubt
from wideneck.audits.output.layer import OutputLayer
from wideneck.audits.output.log_prob_rank import CONTEXTS, LogProbRank, log_prob_rank
from wideneck.audits.output.rank_cost import RankCost, fitting_half, rank_cost
from wideneck.audits.output.summary import Gradient, Logits, Loss, summarize
from wideneck.audits.states import HiddenStates, LayerAnisotropy, Progress
from wideneck.models import HeadWeights, LogitMap


@dataclass(frozen=True, kw_only=True)
class LogitMapMeasured:
    """What the model does to its logits after the head."""

    kind: str = measure(
        "identity, scale or softcap (cap tanh(scale z / cap)), measured by putting known values "
        "in place of the head's output, not looked up by architecture; of a head of wideneck, what "
        "it does to the scores before its softmax itself, and identity where it has not one softmax"
    )
    scale: float = measure("factor on the logits")
    cap: float | None = measure("largest size of a logit after a soft cap")


@dataclass(frozen=True, kw_only=True)
class OutputAudit:
    """The output layer at work."""

    hidden_size: int = measure("width d of what enters the head")
    num_tokens: int = measure("predictions made", unit="tokens")
    num_documents: int = measure("documents that the windows come from")
    window: int = measure(
        "predictions in a row before the context starts anew",
        unit="tokens",
        caution="early positions see little context, so the loss is above that of long windows",
    )
    logit_map: LogitMapMeasured = measure("what happens to the logits after the head")
    loss: Loss = measure("how well the model predicts the text")
    logits: Logits = measure("size and spread of the scores")
    anisotropy: list[LayerAnisotropy] = measure("mean cosine of hidden states, layer by layer")
    rank: LogProbRank = measure("numerical rank of the matrix of log-probabilities")
    rank_cost: RankCost = measure("nats lost when the head is cut to rank r")
    gradient: Gradient = measure("share of the logit gradient that survives the head")
    in_doubt: InDoubt = measure("tokens below a threshold that the head's columns certify")
    notes: list[str] = measure("what could not be measured of the output, and why")


@torch.no_grad()
def audit_output(
    head: HeadWeights,
    logit_map: LogitMap,
    states: HiddenStates,
    clock: Clock,
    *,
    progress: Progress | None = None,
) -> OutputAudit:
    """Measure the head on the states that the model sends into it."""
    layer = OutputLayer.of(head, logit_map)
    _, window, hidden_size = states.hidden.shape
    layer.check(*states.probe, head.model)
    fit, notes = fitting_half(states.document), list[str]()
    with clock("loss and gradient"):
        summary = summarize(layer, states, fit, progress, notes)
    with clock("rank of log-probabilities"):
        lse = summary.log_normalizer.flatten()
        rank = measured(
            "the rank of the log-probabilities",
            lambda: log_prob_rank(layer, states.hidden.view(-1, hidden_size), lse, progress),
            unknown(LogProbRank, num_contexts=min(lse.numel(), CONTEXTS)),
            notes,
        )
    with clock("nats lost at rank r"):
        cost = rank_cost(
            layer, states, fit, summary.mean_probability, notes=notes, progress=progress
        )
    doubt = unknown(InDoubt, skipped=SOFT_CAP)
    if logit_map.is_linear:
        with clock("tokens left in doubt"):
            doubt = measured(
                "which tokens the head's columns certify",
                lambda: in_doubt(layer.logits, layer.weight, states, progress),
                unknown(InDoubt),
                notes,
            )
    return OutputAudit(
        hidden_size=hidden_size,
        num_tokens=states.targets.numel(),
        num_documents=len(states.document.unique()),
        window=window,
        logit_map=LogitMapMeasured(kind=logit_map.kind, scale=logit_map.scale, cap=logit_map.cap),
        loss=summary.loss,
        logits=summary.logits,
        anisotropy=states.anisotropy,
        rank=rank,
        rank_cost=cost,
        gradient=summary.gradient,
        in_doubt=doubt,
        notes=notes,
    )
