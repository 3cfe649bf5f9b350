"""Whether a text follows from its source, as a classifier of entailment judges it (NLI).

The source is the premise, the text the hypothesis.  What is given is the classifier's probability,
which is as good as its training: mostly on single sentences, and seldom calibrated.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from wideneck.errors import WideneckError
from wideneck.files.printable import listed
from wideneck.lab.tasks.coherence import others_before
from wideneck.lab.tasks.judge_reading import Reader

LABELS = {"entailed": "entailment", "contradicted": "contradiction"}
"""Each measure's label; the first must be there."""
CUT = "cut"


class Entailment:
    """A judge: measures of texts with their sources, each with its definition.

    Args:
        reader: a sequence classifier with its tokenizer.
        labels: each measure's place among the classifier's labels, as `label_places` finds it.
    """

    def __init__(self, reader: Reader, labels: Mapping[str, int]):
        self.reader, self.labels = reader, labels
        self.definitions: dict[str, str] = {}
        for name in labels:
            self.definitions[name] = (
                f"Probability of {LABELS[name]} that the judge gives to the text as the hypothesis "
                "with its source as the premise."
            )
            self.definitions[f"{name} mismatched"] = (
                "The same with the last source before that is another one."
            )
        self.definitions[CUT] = (
            "1 where the source was cut at its end, as the pair was longer than the judge's "
            "positions, else 0."
        )

    def measures(
        self, sources: Sequence[str], texts: Sequence[str]
    ) -> dict[str, list[float | None]]:
        """The measures of `definitions`, one value a text.

        None: an empty text or source, or a text that leaves the judge no position for a source.
        """
        pairs = list(zip(sources, texts, strict=True))
        kept = [
            i
            for i, (source, text) in enumerate(pairs)
            if source.strip() and text.strip() and self.reader.leaves_room(text)
        ]
        found: dict[str, list[float | None]] = {x: [None] * len(pairs) for x in self.definitions}
        others = others_before([sources[i] for i in kept])
        crossed = {
            i: (sources[kept[other]], texts[i])
            for i, other in zip(kept, others, strict=True)
            if other is not None
        }
        for suffix, judged in (("", {i: pairs[i] for i in kept}), (" mismatched", crossed)):
            if not judged:
                continue
            result = self.reader.read(list(judged.values()), _probabilities)
            for name, place in self.labels.items():
                for i, row in zip(judged, result.answers.tolist(), strict=True):
                    found[name + suffix][i] = row[place]
            if not suffix:
                for i, cut in zip(judged, result.cut, strict=True):
                    found[CUT][i] = float(cut)
        return found


def label_places(labels: Mapping[int, str], judge: str) -> dict[str, int]:
    """Each measure's place among a classifier's labels.

    Args:
        labels: `id2label` of its config.
        judge: what the user calls it.

    Raises:
        WideneckError: none of the labels, or more than one, is "entailment", or its place is none.
    """
    places: dict[str, int] = {}
    for name, label in LABELS.items():
        found = [place for place, text in labels.items() if str(text).strip().lower() == label]
        if len(found) == 1 and 0 <= found[0] < len(labels):
            places[name] = found[0]
    if "entailed" not in places:
        raise WideneckError(
            f"The classifier {judge} has the labels {listed([str(x) for x in labels.values()])}, "
            "and a judge should have one label entailment: name a classifier of entailment (NLI), "
            "or an encoder of sentences."
        )
    return places


def _probabilities(result: Any, _mask: Tensor) -> Tensor:
    logits = result.logits
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(-1)
