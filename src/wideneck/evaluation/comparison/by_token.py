"""Models of one tokenizer, prediction by prediction.

Shapes: W windows of T predictions.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from wideneck.data import Vocabulary, Windows, cut_windows
from wideneck.evaluation.comparison.asked import Asked
from wideneck.evaluation.comparison.beside import Measured, difference
from wideneck.evaluation.comparison.comparison import Comparison
from wideneck.evaluation.comparison.distributions import Apart, OfOne, distributions
from wideneck.evaluation.comparison.kinds import kinds
from wideneck.evaluation.comparison.measuring import one_model
from wideneck.evaluation.comparison.over_models import over_groups
from wideneck.evaluation.comparison.reading import Read, read_model


def by_token(asked: Asked) -> Comparison:
    """Compare models, or groups of them."""
    windows = cut_windows(
        asked.text,
        asked.tokenizers[0],
        num_tokens=asked.num_tokens,
        window=asked.window,
        seed=asked.seed,
    )
    reads = list(_reads(asked, windows))
    with asked.clock("compare"):
        ones, apart = _distributions(reads, windows, asked)
        found = [_measured(*pair, windows) for pair in zip(reads, ones, strict=True)]
        of_tokens = list(kinds(asked.text, windows, asked.tokenizers[0]))
    with asked.clock("ranks"):
        models = [
            one_model(read, one.one, one.loss, windows)
            for read, one in zip(reads, found, strict=True)
        ]
    with asked.clock("differences"):
        decode = partial(_decode, asked.tokenizers[0])
        differences, groups = [], []
        if asked.groups:
            groups = over_groups([one.loss for one in found], asked.groups, of_tokens)
        else:
            differences = [
                difference(found[0], one, beside, of_tokens, windows, decode)
                for one, beside in zip(found[1:], apart, strict=True)
            ]
    return Comparison(
        source=asked.source(
            windows.targets.numel(), windows.num_documents, _notes(asked, reads, windows)
        ),
        models=models,
        differences=differences,
        groups=groups,
    )


def _reads(asked: Asked, windows: Windows) -> Any:
    """Each model on the windows; its body is gone before the next one comes."""
    rows = zip(asked.models, asked.tokenizers, asked.names, asked.places, strict=True)
    for done, (model, tokenizer, name, where) in enumerate(rows):
        if asked.progress:
            asked.progress("loading a model", done, len(asked.models))
        with asked.clock("read the text"):
            yield read_model(
                model, tokenizer, windows, name=name, where=where, progress=asked.progress
            )


def _distributions(
    reads: Sequence[Read], windows: Windows, asked: Asked
) -> tuple[list[OfOne | None], list[Apart | None]]:
    """Of each model, and of each but the first how far it is from that.

    None where a model has no distributions, and where the first has none.
    """
    ones: list[OfOne | None] = [None] * len(reads)
    apart: list[Apart | None] = [None] * len(reads)
    places = [i for i, read in enumerate(reads) if read.head is not None]
    if places:
        found, beside = distributions(
            [reads[i].head for i in places],  # type: ignore[misc]
            [reads[i].hidden.flatten(0, 1) for i in places],  # type: ignore[union-attr]
            windows.targets.flatten(),
            progress=asked.progress,
        )
        for i, one, other in zip(places, found, [None, *beside], strict=True):
            ones[i] = one
            apart[i] = other if places[0] == 0 else None
    return ones, apart[1:]


def _measured(read: Read, one: OfOne | None, windows: Windows) -> Measured:
    loss = read.nll if one is None else one.nll.view_as(windows.targets)
    assert loss is not None
    return Measured(read.about.name, loss, one)


def _decode(tokenizer: Any, ids: Sequence[int]) -> str:
    if isinstance(tokenizer, Vocabulary):
        return tokenizer.decode(ids)
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False)


def _notes(asked: Asked, reads: Sequence[Read], windows: Windows) -> list[str]:
    notes = asked.cut_short(windows.targets.numel(), windows.num_documents)
    without = [read.about.name for read in reads if read.head is None]
    if without:
        notes.append(
            f"{', '.join(without)}: predicts from a memory besides its head, so its losses alone "
            "are compared."
        )
    sizes = {read.head.vocab_size for read in reads if read.head is not None}
    if len(sizes) > 1:
        notes.append(
            "The heads have different numbers of rows, so no divergence from the first is given "
            "where it has another number."
        )
    return notes
