"""Pointwise mutual information of texts with their sources, as a causal language model judges it.

It is the mean over a text's tokens but the first of
log p(token | source, tokens before) - log p(token | tokens before), in nats.

Cost: three passes of the judge, over the text alone, after its source and after another one.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from wideneck.lab.tasks.coherence import ROWS, others_before
from wideneck.models import evaluating
from wideneck.models.language_model import LoadedModel
from wideneck.models.positions import max_positions

DEFINITIONS = {
    "pmi": "Mean over the text's tokens but the first of log p(token | source, tokens before) - "
    "log p(token | tokens before), in nats, by a language model; the first has nothing before it.",
    "pmi mismatched": "The same with the last source before that is another one.",
    "pmi cut": "1 where the source was cut at its end, as it did not fit the judge's positions "
    "before the text, else 0.",
}

Ids = Sequence[int]


class Likelihood:
    """A judge: the measures of `DEFINITIONS`, of texts that stand behind a space.

    Args:
        loaded: the language model and its tokenizer.
    """

    definitions = DEFINITIONS

    def __init__(self, loaded: LoadedModel):
        self.loaded = loaded

    def measures(
        self, sources: Sequence[str], texts: Sequence[str]
    ) -> dict[str, list[float | None]]:
        """The measures of `definitions`, one value a text; None: as `pmi`."""
        behind = [f" {text}" if text else "" for text in texts]
        return pmi(self.loaded.model, self._ids(sources), self._ids(behind))

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        options = {"add_special_tokens": False, "verbose": False}
        return self.loaded.tokenizer(list(texts), **options).input_ids


@torch.no_grad()
def pmi(judge: Any, sources: Sequence[Ids], texts: Sequence[Ids]) -> dict[str, list[float | None]]:
    """The measures of `DEFINITIONS`, one value a text.

    None: a source without tokens, a text of fewer than two, or one that leaves the judge no
    position for a source.

    Args:
        judge: a causal language model of transformers; its mode is kept.
        sources: token ids of the judge; a text's follow its source's without anything between.
        texts: as many, each a text's token ids.
    """
    limit = max_positions(judge)
    pairs = list(zip(sources, texts, strict=True))
    scored = [
        i
        for i, (source, text) in enumerate(pairs)
        if len(source) > 0 and len(text) > 1 and (limit is None or len(text) < limit)
    ]
    own = [_joined(*pairs[i], limit) for i in scored]
    before = others_before([tuple(pairs[i][0]) for i in scored])
    with evaluating(judge):
        alone = _mean_log_probs(judge, [(0, list(pairs[i][1])) for i in scored])
        after = _mean_log_probs(judge, own)
        others = [
            _joined(pairs[scored[other]][0], pairs[i][1], limit)
            for i, other in zip(scored, before, strict=True)
            if other is not None
        ]
        mismatched = _mean_log_probs(judge, others) or [None] * len(scored)
    found: dict[str, list[float | None]] = {name: [None] * len(pairs) for name in DEFINITIONS}
    for k, i in enumerate(scored):
        other = mismatched[k]
        found["pmi"][i] = after[k] - alone[k]
        found["pmi mismatched"][i] = None if other is None else other - alone[k]
        found["pmi cut"][i] = float(own[k][0] < len(pairs[i][0]))
    return found


def _joined(source: Ids, text: Ids, limit: int | None) -> tuple[int, list[int]]:
    """Where the text begins, and the ids of both."""
    kept = list(source if limit is None else source[: limit - len(text)])
    return len(kept), [*kept, *text]


def _mean_log_probs(judge: Any, rows: list[tuple[int, list[int]]]) -> list[float]:
    """Of each row's tokens behind its start, given all before."""
    found = [0.0] * len(rows)
    # By starts, so that few logits beside the texts' own are kept.
    order = sorted(range(len(rows)), key=lambda i: (rows[i][0], len(rows[i][1])))
    for at in range(0, len(order), ROWS):
        batch = order[at : at + ROWS]
        # What a model reads from the left needs no mask before padding at the right.
        ids = pad_sequence([torch.tensor(rows[i][1]) for i in batch], batch_first=True)
        first = min(rows[i][0] for i in batch)
        logits = judge(
            input_ids=ids.to(judge.device),
            use_cache=False,
            logits_to_keep=ids.shape[1] - first,
        ).logits
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        for row, i in zip(logits, batch, strict=True):
            start, tokens = rows[i]
            target = torch.tensor(tokens[start + 1 :], device=row.device)
            scores = row[start - first : len(tokens) - 1 - first]
            found[i] = -F.cross_entropy(scores, target).item()
    return found
