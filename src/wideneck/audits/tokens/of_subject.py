"""The most suspicious tokens of a subject, asked for while its model is loaded."""

from dataclasses import replace

from wideneck.audits.rows import SpecialRows, reference_rows
from wideneck.audits.subject import Subject
from wideneck.audits.tokens.suspicion import suspects
from wideneck.audits.tokens.verify import FOUND, Verification, verify

BOTH = "geometry and prompt"


def verified_tokens(subject: Subject, count: int) -> Verification:
    """What the model says of the `count` tokens that its head makes most suspicious.

    Rows beyond the tokenizer and special tokens are not asked for: no text has the former, and the
    latter mark things that no prompt repeats.

    Raises:
        WideneckError: as `verify`.
    """
    head, loaded = subject.head, subject.loaded
    assert loaded is not None
    named = head.tokens or []
    special = {*loaded.tokenizer.all_special_ids}
    special |= {i for i, t in loaded.tokenizer.added_tokens_decoder.items() if t.special}
    nameless = [i for i in range(len(head.weight)) if i >= len(named) or named[i] is None]
    embedding = loaded.model.get_input_embeddings().weight
    apart = None if head.tied else embedding.detach().to(head.weight.device)
    order, by = suspects(
        head.weight,
        reference_rows(head.weight, head.tokens, head.bias),
        input_weight=apart,
        excluded=special.union(nameless),
    )
    chosen = order[:count]
    subject.ranks.agree("the most suspicious tokens", chosen)
    found = verify(
        loaded,
        chosen,
        head.tokens,
        batch=subject.where.batch,
        ranks=subject.ranks,
        progress=subject.progress,
    )
    return replace(found, order=by)


def with_prompts(rows: SpecialRows, verified: Verification | None) -> SpecialRows:
    """The rows with "geometry and prompt" for the undertrained ones that the model did not say."""
    if verified is None or rows.undertrained is None:
        return rows
    unsaid = {token.token for token in verified.tokens if token.prob < FOUND}
    found = [replace(r, evidence=BOTH) if r.token in unsaid else r for r in rows.undertrained]
    return replace(rows, undertrained=found)
