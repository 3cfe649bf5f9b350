"""Documents read by a Hugging Face model: the loss of every token, window by window.

Each document of n tokens is cut into windows that do not overlap: x[s : s + T] predicts x[s + 1 :
s + T + 1] for s = 0, T, 2T, ..., the last one shorter, each behind what the tokenizer puts in front
of a text.  So every token but the first of its document is predicted once, by what its own window
holds before it, and nothing goes over from one document to the next.

The losses are those of the model's own output, whatever stands between its hidden states and its
logits.  A head of wideneck gives them by its fused loss, without the scores of all tokens.  Cost:
one pass over the text; T x V logits of one window where no head of wideneck is attached.

Shapes: W windows, P tokens in front, T predictions, D hidden size, V vocabulary.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from wideneck import heads
from wideneck.attached.swap import attached_head, placed_memory
from wideneck.audits.output.layer import TOKENS
from wideneck.audits.states import Progress
from wideneck.data.tokenizing import ids_and_ends, in_one
from wideneck.errors import WideneckError
from wideneck.heads import Head
from wideneck.models import ask, evaluating, measure_logit_map
from wideneck.models.batches import Batches
from wideneck.models.device_map import weights_there
from wideneck.models.quiet import quiet_transformers
from wideneck.models.ranks import ALONE, Ranks
from wideneck.models.reading import check_ids, entering_head


@dataclass(frozen=True)
class Window:
    """One row of the model's input, and what it should predict."""

    ids: Tensor
    """(P + n,), n at most T."""
    target: Tensor
    """(n,): what follows each of the last n of `ids`."""
    document: int
    num_bytes: int
    """UTF-8 bytes of the predicted text."""


class DocumentWindows(Sequence[Window]):
    """The windows of a text in order, made one at a time of arrays: 4 bytes a token, 24 a window.

    Args:
        front: the P ids in front of every window.
        tokens: of all documents, one after the other, int32.
        places: (W, 4): where in `tokens` a window begins and ends, its document, its bytes.
    """

    def __init__(self, front: Sequence[int], tokens: np.ndarray, places: np.ndarray):
        self._front = torch.tensor(list(front), dtype=torch.long)
        self._tokens, self._places = tokens, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Window: ...

    @overload
    def __getitem__(self, index: slice) -> "DocumentWindows": ...

    def __getitem__(self, index: int | slice) -> "Window | DocumentWindows":
        if isinstance(index, slice):
            return DocumentWindows(self._front.tolist(), self._tokens, self._places[index])
        start, stop, document, num_bytes = self._places[index].tolist()
        tokens = torch.from_numpy(self._tokens[start : stop + 1].astype(np.int64))
        return Window(torch.cat([self._front, tokens[:-1]]), tokens[1:], document, num_bytes)


@dataclass(frozen=True)
class Losses:
    """What a model makes of the windows."""

    nll: Tensor
    """(W, T) nats; 0 where `counted` is False."""
    counted: Tensor
    """(W, T): a window at the end of its document has fewer predictions than T."""
    document: Tensor
    """(W,)."""
    num_bytes: int
    """UTF-8 bytes of the predicted text."""
    hidden: Tensor | None
    """(N, D), on the CPU: what entered the head at N places at equal distances, where they were
    asked for."""


def windows_of(
    documents: Sequence[str],
    tokenizer: Any,
    *,
    window: int,
    prefix: Sequence[int] = (),
    num_tokens: int | None = None,
    name: str = "that was given",
) -> DocumentWindows:
    """The windows of a text, in its order.

    Args:
        documents: one text each.
        tokenizer: a fast Hugging Face tokenizer.
        window: T.
        prefix: P ids put in front of every window.
        num_tokens: predictions at most, from the start of the text; None for all.
        name: what messages call the text.

    Raises:
        WideneckError: a slow tokenizer, which cannot tell the bytes of a token, or one that fails;
            or no document has two tokens.
    """
    if not tokenizer.is_fast:
        raise WideneckError(
            f"{type(tokenizer).__name__} does not say where its tokens stand in the text, which "
            "bits per byte need: a fast tokenizer (tokenizer.json) does."
        )
    tokens: list[np.ndarray] = []
    places = array("q")
    before = 0
    missing = num_tokens
    for number, document in enumerate(documents):
        if missing is not None and missing <= 0:
            break
        enough = None if missing is None else missing + 1
        ids, ends = ids_and_ends(tokenizer, document, name, enough)
        last = len(ids) - 1 if missing is None else min(len(ids) - 1, missing)
        for start in range(0, last, window):
            stop = min(start + window, last)
            predicted = document[ends[start] : ends[stop]]
            num_bytes = len(predicted.encode("utf-8", "surrogatepass"))
            places.extend((before + start, before + stop, number, num_bytes))
        tokens.append(ids[: last + 1])
        before += len(tokens[-1])
        missing = None if missing is None else missing - max(last, 0)
    if places and not sum(places[3::4]):
        raise WideneckError(
            f"The tokenizer {type(tokenizer).__name__} gives the text {name} tokens that stand for "
            "none of its bytes, which bits per byte need: use another tokenizer, or another text."
        )
    windows = DocumentWindows(
        prefix, in_one(tokens, np.int32), np.array(places, np.int64).reshape(-1, 4)
    )
    if not windows:
        raise WideneckError(
            "No document of the text has two tokens, and one is predicted from another; give a "
            "longer text."
        )
    return windows


@torch.no_grad()
def document_losses(
    model: Any,
    windows: Sequence[Window],
    *,
    num_hidden: int = 0,
    batch: int | None = None,
    ranks: Ranks = ALONE,
    progress: Progress | None = None,
) -> Losses:
    """Run the model over the windows.

    Args:
        model: a causal language model of transformers, with a head of wideneck or its own.
        windows: of one text.
        num_hidden: how many states entering the head to keep, at equal distances; all if there are
            fewer.
        batch: windows of one length to run at once; None for what suits the model.
        ranks: the processes that share the windows.
        progress: called as progress("reading the text", predictions done, predictions in all).

    Raises:
        WideneckError: the tokens are not the model's, a loss is not finite, or a window does not
            fit the memory.
    """
    check_ids(model, max(int(max(window.ids.max(), window.target.max())) for window in windows))
    counts = [len(window.target) for window in windows]
    ends = list(accumulate(counts))
    total, longest = ends[-1], max(counts)
    picked = torch.linspace(0, total - 1, min(num_hidden, total), dtype=torch.float64).round()
    # A memory mixes what it holds into the head's probabilities: its losses are in the logits only.
    head = None if placed_memory(model) is not None else attached_head(model)

    def run(rows: Sequence[int]) -> list[tuple[Tensor, Tensor | None]]:
        """Of each window (n,) losses, and (N, D) states that are picked, on the CPU."""
        entering.calls.clear()
        some = [windows[row] for row in rows]
        ids = torch.stack([window.ids for window in some])
        with quiet_transformers():  # it warns of a text that holds the id for padding
            logits = ask(model, input_ids=ids, use_cache=False).logits
        found = []
        for i, (row, window) in enumerate(zip(rows, some, strict=True)):
            n = counts[row]
            if head is None:
                nll = _nll(logits[i, -n:], window.target.to(logits.device))
            else:
                hidden = entering.only()[i, -n:]
                nll = head.nll(hidden, window.target.to(hidden.device))
            start = ends[row] - n
            here = picked[(picked >= start) & (picked < start + n)].long() - start
            kept = entering.only()[i, -n:].cpu()[here] if len(here) else None
            found.append((nll.float().cpu(), kept))
        return found

    lengths = [len(window.ids) for window in windows]
    scores = 0 if head is not None else model.get_output_embeddings().weight.shape[0]
    batches = Batches(model, batch, max(lengths), outputs=scores)
    groups = batches.groups(lengths)
    nll = torch.zeros(len(windows), longest)
    counted = torch.zeros(len(windows), longest, dtype=torch.bool)
    states: list[Tensor] = []
    row = 0
    with (
        evaluating(model),
        entering_head(model, last=None if head is None else 1) as entering,
    ):
        for found in ranks.in_order(len(groups), lambda i: batches.read(groups[i], run)):
            for losses, kept in found:
                nll[row, : counts[row]] = losses
                counted[row, : counts[row]] = True
                states += [] if kept is None else [kept]
                row += 1
                if progress:
                    progress("reading the text", ends[row - 1], total)
    if not nll.isfinite().all():
        raise WideneckError(
            f"{type(model).__name__} gives a loss that is not finite on this text; load it in a "
            "wider dtype."
        )
    return Losses(
        nll=nll,
        counted=counted,
        document=torch.tensor([window.document for window in windows]),
        num_bytes=sum(window.num_bytes for window in windows),
        hidden=torch.cat(states) if states else None,
    )


@torch.no_grad()
def own_head(model: Any, window: Window) -> Head:
    """The head of wideneck that a model has, or its own output layer as one, sharing its weights.

    Args:
        model: as for `document_losses`.
        window: on which such a layer is compared with the model's logits.

    Raises:
        WideneckError: the model has a memory, which no head shows, or does something to its logits
            that no head of wideneck does.
    """
    if placed_memory(model) is not None:
        raise WideneckError(
            f"This {type(model).__name__} predicts from a memory besides its head, so the ranks of "
            "its head alone would not be its own: leave them out."
        )
    head = attached_head(model)
    if head is not None:
        return head
    layer, logit_map = model.get_output_embeddings(), measure_logit_map(model)
    vocab_size, hidden_size = layer.weight.shape
    built = heads.build(
        logit_map.activation(),
        hidden_size=hidden_size,
        vocab_size=vocab_size,
        bias=getattr(layer, "bias", None) is not None,
        logit_scale=logit_map.scale,
        device="meta",  # its weights are the layer's
        dtype=layer.weight.dtype,
    )
    with weights_there(layer):  # which go from the layer again where a map has put them elsewhere
        built.weight, built.bias = layer.weight, getattr(layer, "bias", None)
    with evaluating(model), entering_head(model) as entering:
        z = ask(model, input_ids=window.ids[None], use_cache=False).logits[0, -1]
    hidden = entering.only()[0, -1].to(built.weight.device)
    off = built.eval().log_probs(hidden).to(z.device) - z.log_softmax(-1)
    # Rounding of the model's own product: 1e-3 is generous for float32, not for bfloat16.
    rounding = max(1e-3, 4 * torch.finfo(z.dtype).eps)
    if off.abs().max() > rounding * max(1.0, z.abs().max().item()):
        raise WideneckError(
            f"The output layer of {type(model).__name__} does not give its own logits: something "
            "between them is not understood, so no ranks are measured."
        )
    return built


def _nll(logits: Tensor, target: Tensor) -> Tensor:
    """(T,) from (T, V), in at least float32, without a second T x V."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    parts = []
    for z, y in zip(logits.split(TOKENS), target.split(TOKENS), strict=True):
        z = z.to(dtype)
        parts.append(z.logsumexp(1) - z.gather(1, y[:, None])[:, 0])
    return torch.cat(parts)
