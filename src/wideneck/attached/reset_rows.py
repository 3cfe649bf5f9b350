"""Repair of rows that no text trained, by name, in a model whose embeddings are not tied.

A row is set to the mean of the rows that are not reset, in the input embedding and in the output
layer, the row's bias with it.  That is where a new token is best started from before a fine-tuning:
as input it is an average word, and as output its score is the mean score, so that
p <= 1 / n under a softmax with the n other rows (Jensen: exp of a mean is no more than the mean of
exp): never above chance, never the most probable, and never far from what training would move.

What that does not do:

- Until they are trained, reset rows are all equal.  The model cannot tell these tokens apart, and an
  audit lists them, as rows equal to each other and to the mean row.
- A token that is never to be produced is better masked (`suppress_tokens` of `generate`): a reset
  row has some probability everywhere, mostly more than a row that training pushed away.
- In a sigmoid, relu or softcap head, where exp f is not convex, the bound 1 / n need not hold.

Cost: two passes over `num_tokens` tokens, one with the rows as they were and one as they become.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from wideneck.attached.reset_checks import check_ids, check_model, check_tokens, layers_of
from wideneck.data import Text, cut_windows, default_text, read_text
from wideneck.errors import WideneckError
from wideneck.functional.gram import row_chunks
from wideneck.models import ask, evaluating
from wideneck.models.causality import logits_of
from wideneck.models.language_model import bos_of
from wideneck.models.positions import max_positions

NUM_TOKENS, WINDOW = 2048, 128
"""Predictions that tell what changed, and those of one window: 2 T V numbers are held at once."""


@dataclass(frozen=True, kw_only=True)
class ResetRow:
    """One row, and how probable its token is on the text."""

    token: int
    string: str | None
    before: float
    """Mean of its probability over the positions, with the row as it was."""
    after: float
    most_before: float
    """The largest of them."""
    most_after: float


@dataclass(frozen=True, kw_only=True)
class ResetRows:
    """What a reset changed on a text; `str()` of it is a table to print."""

    rows: list[ResetRow]
    num_others: int
    """Rows that the mean is over; 1 / num_others bounds the new probabilities of a softmax."""
    kl: float
    """Mean over the positions of KL(before || after) of the whole prediction, in nats."""
    num_tokens: int
    """Positions."""
    text: str

    def __str__(self) -> str:
        """One line for each row, and what became of all other predictions."""
        lines = [
            f"{len(self.rows)} rows set to the mean of {self.num_others:,} others; probability on "
            f"{self.num_tokens:,} tokens of {self.text}, mean (largest):"
        ]
        lines += [
            f"  {row.token} {row.string!r}: {row.before:.2e} ({row.most_before:.2e}) before, "
            f"{row.after:.2e} ({row.most_after:.2e}) after"
            for row in self.rows
        ]
        return "\n".join([*lines, f"  KL(before || after) of all predictions: {self.kl:.2e} nats"])


@torch.no_grad()
def reset_rows(
    model: Any,
    ids: Sequence[int],
    *,
    force: bool = False,
    text: Any = None,
    tokenizer: Any = None,
) -> ResetRows:
    """Set the rows of some tokens to the mean row, in the input embedding and the output layer.

    The parameters stay the same objects, so an optimizer goes on with them; its own moments of these
    rows stay what they were.  If anything fails, the model is as it was.

    Args:
        model: a causal language model of transformers, plain or with a head of wideneck.
        ids: the tokens, each once.  `wn.audit` lists suspects (`head.rows.undertrained`).
        force: also reset bos, eos, pad, unk and the tokens that the tokenizer calls special.
        text: a text file, or None for the reference of the Python language: what the
            probabilities before and after are taken on.
        tokenizer: the model's own; it is needed, to tell special tokens and to read the text.

    Returns:
        Each token's probability on the text before and after, and the KL divergence of all
        predictions; `print` shows it.

    Raises:
        WideneckError: the embeddings are tied, as the input of other models' kind would change with
            the output; a token that is special, without `force`; ids out of range, or given twice;
            no tokenizer; weights that are sharded, quantized or elsewhere; rows that are not
            finite; a text shorter than a window.
    """
    check_model(model)
    layers = layers_of(model)
    ids = check_ids(ids, min(len(layer.weight) for layer in layers))
    strings = check_tokens(model, tokenizer, ids, force)
    rows = _Rows(layers, ids)
    read = _read(text)
    bos, limit = bos_of(tokenizer), max_positions(model)
    windows = cut_windows(
        read,
        tokenizer,
        num_tokens=NUM_TOKENS,
        window=WINDOW if limit is None else max(1, min(WINDOW, limit - len(bos))),
        prefix=bos,
    )
    length = windows.targets.shape[1]
    sums = torch.zeros(2, len(ids), dtype=torch.float64)
    most = torch.zeros(2, len(ids), dtype=torch.float64)
    kl = 0.0
    with evaluating(model):
        for window in windows.ids:

            def log_probs(window: Tensor = window) -> Tensor:
                logits = logits_of(ask(model, input_ids=window[None], use_cache=False))
                return logits[0, -length:].log_softmax(1)

            before = log_probs()
            with rows.reset():
                after = log_probs()
            lost = before.exp() * (before - after)
            kl += lost.masked_fill(before == -torch.inf, 0.0).sum(1).double().sum().item()
            probs = torch.stack([x[:, ids].exp().double().cpu() for x in (before, after)])
            sums += probs.sum(1)
            most = torch.maximum(most, probs.amax(1))
    rows.set()
    count = windows.targets.numel()
    means = (sums / count).tolist()
    return ResetRows(
        rows=[
            ResetRow(
                token=token,
                string=string,
                before=means[0][i],
                after=means[1][i],
                most_before=most[0, i].item(),
                most_after=most[1, i].item(),
            )
            for i, (token, string) in enumerate(zip(ids, strings, strict=True))
        ],
        num_others=rows.num_others,
        kl=kl / count,
        num_tokens=count,
        text=read.name,
    )


@final
class _Rows:
    """The rows of some ids in each tensor that has one for a token, as they are and as they become."""

    def __init__(self, layers: Sequence[nn.Module], ids: Sequence[int]):
        tensors = [t for layer in layers for t in (layer.weight, getattr(layer, "bias", None))]
        self._tensors: list[Tensor] = [t.detach() for t in tensors if isinstance(t, Tensor)]
        self._ids = torch.tensor(ids)
        self._before = [tensor[self._ids].clone() for tensor in self._tensors]
        self._mean = [_mean_of_others(tensor, self._ids) for tensor in self._tensors]
        self.num_others = len(self._tensors[0]) - len(ids)

    def set(self) -> None:
        """The mean row in the place of each."""
        for tensor, mean in zip(self._tensors, self._mean, strict=True):
            tensor[self._ids] = mean

    @contextmanager
    def reset(self) -> Iterator[None]:
        """Inside, the mean row in the place of each; then they are as before."""
        try:
            self.set()
            yield
        finally:
            for tensor, before in zip(self._tensors, self._before, strict=True):
                tensor[self._ids] = before


def _mean_of_others(tensor: Tensor, ids: Tensor) -> Tensor:
    """The mean of the rows (V, D) that are not reset, or of their biases (V,), in its own dtype."""
    kept = torch.ones(len(tensor), dtype=torch.bool)
    kept[ids] = False
    others = kept.nonzero().flatten().to(tensor.device)
    total = torch.stack([chunk.sum(0) for chunk in row_chunks(tensor, others)]).sum(0)
    mean = (total / len(others)).to(tensor.dtype)
    if not mean.isfinite().all():
        raise WideneckError(
            "The mean of the rows that are not reset is not finite: name every row that holds NaN "
            "or an infinity as one to reset."
        )
    return mean


def _read(text: Any) -> Text:
    if text is None:
        return default_text()
    return text if isinstance(text, Text) else read_text(text)
