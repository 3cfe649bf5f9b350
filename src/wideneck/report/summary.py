"""The opening sentences of a report: what was measured, and nothing that was not."""

from statistics import median

from wideneck.audits.attention.results import AttentionAudit
from wideneck.audits.head import HeadAudit
from wideneck.audits.memory.results import MemoryAudit
from wideneck.audits.output import OutputAudit
from wideneck.report.attention_tables import by_ablation
from wideneck.report.figures import half_rank
from wideneck.report.numbers import (
    basis,
    estimate,
    known,
    number,
    percentage,
    share,
    value,
)
from wideneck.report.report import Report
from wideneck.report.series import SeriesReport


def paragraphs(report: Report) -> list[str]:
    """A few plain sentences on each section."""
    found: list[str] = []
    if report.head is not None:
        found.append(" ".join(_head(report.head)))
    if report.output is not None:
        found.append(" ".join(_output(report.output)))
    if report.attention is not None:
        found.append(" ".join(_attention(report.attention)))
    if report.memory is not None:
        found.append(" ".join(_memory(report.memory)))
    return found


def _head(head: HeadAudit) -> list[str]:
    tied = "tied to the input embedding" if head.tied else "not tied to the input embedding"
    found = [
        f"The head is {head.vocab_size:,} x {head.hidden_size:,} and {tied}.",
        f"Its mean row, which a softmax does not see, explains {share(head.mean_row_share)} of the "
        "largest squared singular value."
        if known(head.mean_row_share)
        else "What its mean row explains is not measurable.",
    ]
    verdicts = head.argmaxable
    if verdicts is None:
        return found
    if verdicts.unargmaxable:
        count = _tokens(len(verdicts.unargmaxable))
        states = "whatever the hidden state"
        if verdicts.box is not None:
            states = f"at no hidden state with entries up to {number(verdicts.box)} in size"
        found.append(f"{count} can never be the most probable, {states}.")
    elif not verdicts.undecided:
        found.append(
            f"Each of the {verdicts.num_distinct:,} different rows comes first for some hidden "
            "state, which need not be one that the model produces."
        )
    if verdicts.undecided:
        found.append(f"{_tokens(len(verdicts.undecided))} stayed undecided.")
    if verdicts.ties:
        tied_tokens = _tokens(sum(len(tie.tokens) for tie in verdicts.ties))
        found.append(f"{tied_tokens} can at best share the first place with an equal row.")
    return found


def _output(output: OutputAudit) -> list[str]:
    nats = output.loss.nats_per_token
    if not known(nats.value):
        return [f"The model's loss on {output.num_tokens:,} tokens is not measurable."]
    found = [
        f"On {output.num_tokens:,} tokens the model loses {estimate(nats)} nats a token, where a "
        f"uniform guess loses {number(output.loss.uniform_nats)}" + f" ({basis(nats)}).",
    ]
    for point in [p for p in half_rank(output)[:1] if known(p.measured.value)]:
        found.append(
            f"Cutting the head to {point.rank:,} of {output.hidden_size:,} ranks costs "
            f"{estimate(point.measured)} nats a token ({point.method}-weighted, without "
            "retraining)."
        )
    return found


def _attention(audit: AttentionAudit) -> list[str]:
    heads = audit.heads
    windows = "1 window" if audit.num_windows == 1 else f"{audit.num_windows:,} windows"
    if not heads:
        return [f"No attention head was measured on {windows} of {audit.context:,} tokens."]
    keys = [h.effective_keys for h in heads if known(h.effective_keys)]
    first = [h.first_key for h in heads if known(h.first_key)]
    if not keys or not first:
        return [f"On {windows} of {audit.context:,} tokens no head's weights are measurable."]
    found = [
        f"{'1 attention head' if len(heads) == 1 else f'{len(heads):,} attention heads'} "
        f"({audit.normalizer}) on {windows} of {audit.context:,} tokens: the median head spreads "
        f"its weight over {number(float(median(keys)))} effective keys, "
        f"where a query sees {number((audit.context + 1) / 2)} on average, and gives "
        f"{share(median(first))} of it to the first key.",
    ]
    strongest = by_ablation(audit)
    if strongest:
        top = strongest[0]
        assert top.ablation is not None
        losses = [h.ablation.value for h in strongest if h.ablation is not None]
        found.append(
            "With a head's output replaced by the plain mean of its values the loss changes by "
            f"{number(float(median(losses)))} nats a token for the median head and by at most "
            f"{estimate(top.ablation)} (layer {top.layer}, head {top.head}), one head at a time."
        )
    return found


def _memory(audit: MemoryAudit) -> list[str]:
    recurrence = audit.recurrence
    elsewhere = ""
    if recurrence.elsewhere is not None:
        elsewhere = (
            f"; of tokens at the same places of other text, {share(recurrence.elsewhere.value)}"
        )
    found = [
        f"Of {audit.num_tokens:,} next tokens, {percentage(recurrence.share)} stand in the "
        f"context already, a window of {audit.window:,}{elsewhere}."
    ]
    if (
        audit.baselines is not None
        and audit.layers
        and known(audit.layers[-1].dot.reciprocal_rank.value)
    ):
        last, beside = audit.layers[-1], audit.baselines
        found.append(
            "Where they do, their mean reciprocal rank among the tokens of the context is "
            f"{estimate(last.dot.reciprocal_rank)} by the similarity of the states that enter the "
            f"head, {value(beside.token_identity.reciprocal_rank)} if what followed the current "
            f"token before comes first, and {value(beside.recency.reciprocal_rank)} by recency."
        )
    gains = {
        (c.mixture, c.scores): estimate(c.gain)
        for c in audit.gain.caches
        if c.mixture in ("joint", "linear")
    }
    if gains and all(known(c.gain.value) for c in audit.gain.caches):
        found.append(
            f"The gain of a cache of these states is {gains['joint', 'similarity']} nats a token "
            f"under one normalizer and {gains['linear', 'similarity']} mixed linearly, fitted on "
            "one half of the text and measured on the other, without training; of one that counts "
            f"tokens, {gains['joint', 'counts']} and {gains['linear', 'counts']}."
        )
    return found


def _tokens(count: int) -> str:
    return "1 token" if count == 1 else f"{count:,} tokens"


def series_paragraphs(report: SeriesReport) -> list[str]:
    """First and last checkpoint of a series."""
    first, last = report.points[0], report.points[-1]
    shape = f"{last.head.vocab_size:,} x {last.head.hidden_size:,}"
    texts = [
        f"{len(report.points)} heads of {shape}, from step {first.step:,} to step {last.step:,}."
    ]
    ends = [point.head.spectrum.centred.kl_sigma2 for point in (first, last)]
    null = last.head.spectrum.null.kl_sigma2
    if all(map(known, [*ends, null])):
        texts.append(
            f"The singular entropy of the centred head goes from {number(ends[0])} to "
            f"{number(ends[1])} nats, where a Gaussian matrix has {number(null)}."
        )
    shares = [point.head.mean_row_share for point in (first, last)]
    if all(map(known, shares)):
        texts.append(
            f"The mean row's share of the largest squared singular value goes from "
            f"{share(shares[0])} to {share(shares[1])}."
        )
    return [" ".join(texts)]
