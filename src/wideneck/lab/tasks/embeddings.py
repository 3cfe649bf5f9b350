"""How alike a text and its source are, by the cosine of their sentence embeddings.

The coherence of Wan et al. 2023 (Table 3) is this measure with SimCSE; which of its checkpoints,
and how its states are pooled, the paper does not say.  Here the embedding is the mean of the last
layer's states over all tokens, those that the tokenizer adds among them.  Only where the files are
those of sentence-transformers and say so it is the state of the first token.  SimCSE was trained on
the first token, and its cosines are others under that.  A text is read up to the positions of the
model, wherever sentence-transformers would have cut it.

Cosines of most encoders are high for any two texts, so they say something only beside those of
texts with the sources of others.
"""

import json
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wideneck.errors import WideneckError
from wideneck.files.boundary import reading
from wideneck.files.json_object import check_json_file
from wideneck.files.printable import listed
from wideneck.lab.tasks.judge_reading import Reader
from wideneck.models.folder import Folder

MODULES, POOLING = "modules.json", "1_Pooling/config.json"
"""What sentence-transformers writes."""
PLAIN = {"Transformer", "Pooling", "Normalize"}
"""Its modules after which an embedding is a pooled state, up to its length."""
POOLED = {
    "mean": "the mean of the last layer's states over all tokens",
    "cls": "the last layer's state of the first token",
}
CUT = "cut"


class Embeddings:
    """A judge: measures of texts with their sources, each with its definition.

    Args:
        reader: an encoder with its tokenizer.
        pooling: "mean" or "cls", as `pooling_of` finds it.
    """

    def __init__(self, reader: Reader, pooling: str):
        self.reader, self.pooling = reader, pooling
        self.definitions = {
            "cosine": "Cosine of the judge's embeddings of the text and of its source, each read "
            f"by itself; an embedding is {POOLED[pooling]}.",
            "cosine mismatched": "Mean cosine of the text with every other source.",
            CUT: "1 where the text or its source was cut at its end, as it was longer than the "
            "judge's positions, else 0.",
        }

    def measures(
        self, sources: Sequence[str], texts: Sequence[str]
    ) -> dict[str, list[float | None]]:
        """The measures of `definitions`, one value a text; None: an empty text or source."""
        pairs = list(zip(sources, texts, strict=True))
        found: dict[str, list[float | None]] = {x: [None] * len(pairs) for x in self.definitions}
        kept = [i for i, (source, text) in enumerate(pairs) if source.strip() and text.strip()]
        if not kept:
            return found
        different = list(dict.fromkeys(sources[i] for i in kept))
        place = {source: k for k, source in enumerate(different)}
        known, known_cut = self.embedded(different)
        written, written_cut = self.embedded([texts[i] for i in kept])
        table = F.normalize(written, dim=-1) @ F.normalize(known, dim=-1).T
        for row, i, text_cut in zip(table, kept, written_cut, strict=True):
            own = place[sources[i]]
            found["cosine"][i] = row[own].item()
            found[CUT][i] = float(text_cut or known_cut[own])
            if len(different) > 1:
                others = torch.cat([row[:own], row[own + 1 :]])
                found["cosine mismatched"][i] = others.mean().item()
        return found

    def embedded(self, texts: Sequence[str]) -> tuple[Tensor, list[bool]]:
        """Embeddings (N, D) of at least one text, and which were cut."""
        pooled = {"mean": _mean, "cls": _first}[self.pooling]
        result = self.reader.read([(text,) for text in texts], pooled)
        return result.answers, result.cut


def pooling_of(folder: Folder) -> str:
    """What the files of sentence-transformers say of pooling; "mean" without such files.

    Raises:
        WideneckError: they name another pooling, or a module that is not in `PLAIN`.
    """
    if MODULES not in folder.names():
        return "mean"
    with reading(f"{MODULES} of {folder}", "its list of modules", "download it again"):
        path = folder.path(MODULES)
        check_json_file(path, f"{MODULES} of {folder}")
        kinds = [str(module["type"]).rpartition(".")[2] for module in json.loads(path.read_bytes())]
    others = sorted(set(kinds) - PLAIN)
    if others:
        raise WideneckError(
            f"{folder} makes embeddings by the modules {listed(others)} besides, which wideneck "
            f"does not run: give an encoder whose {MODULES} names none but {listed(sorted(PLAIN))}."
        )
    if "Pooling" not in kinds:
        return "mean"
    said = folder.json(POOLING)
    modes = {
        name.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
        for name, chosen in said.items()
        if name.startswith("pooling_mode_") and chosen is True
    }
    if isinstance(said.get("pooling_mode"), str):
        modes.add(said["pooling_mode"])
    if len(modes) != 1 or not modes <= set(POOLED):
        raise WideneckError(
            f"{POOLING} of {folder} pools by {listed(sorted(modes)) or 'nothing'}, and wideneck "
            f"pools by one of {listed(sorted(POOLED))}: give another encoder."
        )
    return modes.pop()


def _mean(result: Any, mask: Tensor) -> Tensor:
    states = _states(result)
    weights = mask[..., None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)


def _first(result: Any, _mask: Tensor) -> Tensor:
    return _states(result)[:, 0]


def _states(result: Any) -> Tensor:
    states = result.last_hidden_state
    return states.to(torch.promote_types(states.dtype, torch.float32))
