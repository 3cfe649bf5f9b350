"""Complete reports of a small random head, with a row that is hostile and rows that are special."""

import dataclasses

import torch

from wideneck.audits.argmaxable.result import Certificate, TokenRef, Unargmaxable
from wideneck.audits.attention.results import AttentionAudit
from wideneck.audits.clock import Clock
from wideneck.audits.estimate import Estimate
from wideneck.audits.head import HeadAudit, audit_head
from wideneck.audits.memory.results import MemoryAudit
from wideneck.audits.output import OutputAudit
from wideneck.audits.output.in_doubt import Doubt, InDoubt
from wideneck.audits.output.log_prob_rank import LogProbRank
from wideneck.audits.output.rank_cost import RankCost, RankLoss
from wideneck.audits.output.section import LogitMapMeasured
from wideneck.audits.output.summary import Gradient, Logits, Loss
from wideneck.audits.states import LayerAnisotropy
from wideneck.models import HeadWeights
from wideneck.report.provenance import provenance
from wideneck.report.report import Report
from wideneck.report.series import SeriesPoint, SeriesReport

V, D = 80, 16
HOSTILE = "<script>alert('1')</script>\x1b[31m\u202e"
MODEL = "someone/<b>model</b> & co"


def head_audit(seed: int = 0, *, weighted: bool = True, name: str = "lm_head.weight") -> HeadAudit:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(V, D, generator=generator) + 0.5
    weight[5] = weight[4]
    tokens = [f"token{i}" for i in range(V - 2)]
    tokens[4] = HOSTILE
    moment = torch.eye(D, dtype=torch.float64).mul(torch.arange(1, D + 1)) if weighted else None
    head = HeadWeights(
        weight=weight,
        bias=None,
        name=name,
        dtype="float32",
        rounding=2.0**-23,
        tied=False,
        tying="a tensor of its own",
        sha256=f"{seed:064x}",
        tokens=tokens,
        model=MODEL,
    )
    return audit_head(head, Clock(), second_moment=moment)


def with_unreachable(head: HeadAudit) -> HeadAudit:
    """As if the search had found a token inside the hull, and left one open."""
    assert head.argmaxable is not None
    certificate = Certificate(tokens=list(range(30)), weights=[1 / 30] * 30, residual=2e-16)
    found = Unargmaxable(token=7, string=HOSTILE, bound=1.5e-15, certificate=certificate)
    verdicts = dataclasses.replace(
        head.argmaxable,
        unargmaxable=[found],
        undecided=[TokenRef(token=i, string=f"open{i}") for i in range(70)],
    )
    return dataclasses.replace(head, argmaxable=verdicts)


def around(value: float, half: float | None = 0.1) -> Estimate:
    if half is None:
        ends = {"low": None, "high": None, "num_groups": 1, "effective_groups": 1.0}
    else:
        ends = {"low": value - half, "high": value + half, "num_groups": 8, "effective_groups": 6.5}
    return Estimate(value=value, over="documents", **ends)


def output_audit(
    *, methods=("plain", "centred", "whitened", "fisher"), half: float | None = 0.1
) -> OutputAudit:
    points = [
        RankLoss(
            rank=rank,
            method=method,
            measured=around((D - rank) / 10 / (k + 1), half),
            first_order=0.001,
            fisher=0.2,
            predicted=0.201,
        )
        for k, method in enumerate(methods)
        for rank in (2, 8, 15)
    ]
    return OutputAudit(
        hidden_size=D,
        num_tokens=4096,
        num_documents=8,
        window=512,
        logit_map=LogitMapMeasured(kind="softcap", scale=1.0, cap=30.0),
        loss=Loss(
            nats_per_token=around(2.6, half),
            bits_per_byte=around(0.9, half),
            perplexity=around(13.46, half),
            uniform_nats=4.382,
            unigram_nats=3.5,
        ),
        logits=Logits(mean=7.7, std=6.0, spread=3.25, minimum=-43.0, maximum=44.7),
        anisotropy=[
            LayerAnisotropy(layer=name, mean_cosine=0.5, mean_cosine_without_first=0.4)
            for name in ("embeddings", "layer 1", "entering the head")
        ],
        rank=LogProbRank(
            num_contexts=2048,
            bound=None,
            press=17,
            press_tolerance=0.5,
            effective_1e3=9,
            effective_1e4=12,
            effective_1e5=15,
            singular_values=[100.0 / (i + 1) for i in range(D + 8)],
        ),
        rank_cost=RankCost(
            num_fit_tokens=2048,
            num_test_tokens=2048,
            points=points,
            skipped="" if len(methods) == 4 else "whitened and fisher: too few tokens",
        ),
        gradient=Gradient(
            energy_share=around(0.25, None if half is None else 0.01),
            energy_baseline=D / V,
            norm_share=around(0.5, None if half is None else 0.01),
            norm_baseline=(D / V) ** 0.5,
        ),
        in_doubt=InDoubt(
            num_positions=48,
            num_directions=D,
            points=[
                Doubt(
                    threshold=tau,
                    mass_below=around(0.07, None if half is None else 0.02),
                    mass_tested=around(0.02, None if half is None else 0.01),
                    mass_certified=around(0.016, None if half is None else 0.008),
                    tokens_above=around(21.0, half),
                    tokens_certified=around(19.0, half),
                )
                for tau in (1e-3, 1e-2)
            ],
            skipped="",
        ),
        notes=[],
    )


def report(
    head: HeadAudit | None,
    output: OutputAudit | None,
    attention: AttentionAudit | None = None,
    memory: MemoryAudit | None = None,
) -> Report:
    weights_only = output is None and attention is None and memory is None
    found = provenance(
        model=MODEL,
        head_sha256="ab" * 32,
        head_dtype="float32",
        seed=0,
        seconds={"geometry": 1.25},
        text=None if weights_only else "a <i>text</i>",
        text_sha256=None if weights_only else "cd" * 32,
        num_tokens=None if weights_only else 4096,
        notes=["a note with <tags>"],
    )
    return Report(provenance=found, head=head, output=output, attention=attention, memory=memory)


def series(steps: list[int], *, identical: bool = True) -> SeriesReport:
    points = [
        SeriesPoint(name=f"runs/step{step}", step=step, head=head_audit(i, weighted=False))
        for i, step in enumerate(steps)
    ]
    return SeriesReport(
        provenance=provenance(
            model=f"{len(points)} checkpoints",
            head_sha256="ab" * 32,
            head_dtype="float32",
            seed=0,
            seconds={"geometry": 1.25},
        ),
        points=points,
        identical=[[points[0].name, points[1].name]] if identical else [],
    )
