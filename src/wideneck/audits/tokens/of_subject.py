"""The most suspicious tokens of a subject, asked for while its model is loaded."""

from dataclasses import replace

import torch
from torch import Tensor

from wideneck.audits.rows import SpecialRows, special_rows
from wideneck.audits.scale import lengths
from wideneck.audits.subject import Subject
from wideneck.audits.tokens.health import token_categories, unused
from wideneck.audits.tokens.indicators import INPUT_NORM, chosen, indicators
from wideneck.audits.tokens.references import references
from wideneck.audits.tokens.suspicion import suspects
from wideneck.audits.tokens.verify import FOUND, Verification, verify
from wideneck.functional.gram import row_chunks
from wideneck.models.device_map import weights_there

BOTH = "geometry and prompt"


def verified_tokens(subject: Subject, count: int) -> Verification:
    """What the model says of the `count` tokens that its weights make most suspicious.

    Only tokens that a text may hold are asked for, as in the paper.

    Raises:
        WideneckError: as `verify`.
    """
    assert subject.loaded is not None
    order, by = _by_suspicion(subject)
    asked = order[:count]
    subject.ranks.agree("the most suspicious tokens", asked)
    found = verify(
        subject.loaded,
        asked,
        subject.head.tokens,
        batch=subject.where.batch,
        ranks=subject.ranks,
        progress=subject.progress,
    )
    return replace(found, order=by)


def _by_suspicion(subject: Subject) -> tuple[list[int], str]:
    """Ids, the most suspicious first, and in words by what."""
    head, loaded = subject.head, subject.loaded
    assert loaded is not None
    categories = token_categories(head, loaded.tokenizer, [])  # the section notes what fails
    rows = special_rows(head.weight, head.tokens, head.bias, unused(categories))
    equal = [[ref.token for ref in group] for group in rows.duplicates]
    untrained, _ = references(categories, equal, [r.token for r in rows.beyond_tokenizer or ()])
    found = indicators(head.weight, untrained, head.tied, _input_rows(subject))
    name = chosen(found)
    if name is None:
        by = "length of the output row without the mean row, as no row is known to be unused"
        return suspects(_centred_lengths(head.weight), categories), by
    towards = "" if name == INPUT_NORM else f", to {len(untrained)} rows that no text trained"
    return suspects(found[name], categories), name + towards


def _input_rows(subject: Subject) -> Tensor | None:
    """The input embedding of a model that has one of its own, in floating point; else None."""
    assert subject.loaded is not None
    if subject.head.tied:
        return None
    layer = subject.loaded.model.get_input_embeddings()
    with weights_there(layer):
        weight = layer.weight.detach().to(subject.head.weight.device)
    return weight if weight.is_floating_point() else None


def _centred_lengths(weight: Tensor) -> Tensor:
    """(V,), as `indicators` are: lower for a row that says less."""
    mean = torch.stack([chunk.sum(0) for chunk in row_chunks(weight)]).sum(0) / len(weight)
    return torch.cat([lengths(chunk - mean) for chunk in row_chunks(weight)])


def with_prompts(rows: SpecialRows, verified: Verification | None) -> SpecialRows:
    """The rows with "geometry and prompt" for the undertrained ones that the model did not say."""
    if verified is None or rows.undertrained is None:
        return rows
    unsaid = {token.token for token in verified.tokens if token.prob < FOUND}
    found = [replace(r, evidence=BOTH) if r.token in unsaid else r for r in rows.undertrained]
    return replace(rows, undertrained=found)
