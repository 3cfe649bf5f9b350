"""Repair of rows that no text trained, by name, in a model whose embeddings are not tied.

A row becomes the mean of the rows that are not reset, in the input embedding and in the output
layer, and its bias there the mean bias.  That is where a fine-tuning best starts a token from: as
input it is an average word, as output its score is the mean score.  Under a softmax its probability
is then at most 1 / n, with n the other rows, whatever the hidden state (Jensen: exp of a mean is at
most the mean of exp), so it is never the most probable.  The same holds where exp f is convex;
under a relu, a sigmoid or a soft cap it need not.

What it does not do:

- Reset rows are equal until they are trained: the model cannot tell their tokens apart, and an
  audit lists them.
- It is no way to forbid a token.  A row that training pushed away mostly has less probability than
  the mean row: mask what is never to be produced (`suppress_tokens` of `generate`).

Cost: two passes over 2,048 tokens, one with the rows as they were and one as they become.
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
from wideneck.functional.gram import ROWS
from wideneck.models import ask, evaluating
from wideneck.models.causality import logits_of
from wideneck.models.language_model import bos_of
from wideneck.models.positions import max_positions

NUM_TOKENS, WINDOW = 2048, 128
"""Predictions that tell what changed, and those of one window: 3 T V numbers are held at once."""


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

    The parameters stay the same objects, so an optimizer goes on with them; its moments of these
    rows stay what they were.  If anything fails, the model is as it was.

    Args:
        model: a causal language model of transformers, plain or with a head of wideneck.
        ids: the tokens, each once.  `wn.audit` lists suspects (`head.rows.undertrained`).
        force: also reset bos, eos, pad, unk, what else the tokenizer calls special, such as the
            markers of a chat, and added tokens that its chat template holds.
        text: a text file, or None for the reference of the Python language: what the
            probabilities before and after are taken on.
        tokenizer: the model's own; it is needed, to tell special tokens and to read the text.

    Returns:
        Each token's probability on the text before and after, and the KL divergence of all
        predictions; `print` shows it.

    Raises:
        WideneckError: the embeddings are tied, so that one row cannot be set for the output alone;
            a token is special, and `force` is not given; ids are out of range, or come twice;
            there is no tokenizer; the model sees later tokens; weights are sharded, quantized or
            elsewhere; the other rows are not finite; the text is shorter than a window.
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
            before = _log_probs(model, window, length)
            with rows.reset():
                after = _log_probs(model, window, length)
            lost = before.exp() * (before - after)
            kl += lost.masked_fill(before == -torch.inf, 0.0).sum(1).cpu().double().sum().item()
            probs = torch.stack([x[:, ids].exp().cpu().double() for x in (before, after)])
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


def _log_probs(model: Any, window: Tensor, length: int) -> Tensor:
    """(T, V) of the last `length` positions of a window."""
    logits = logits_of(ask(model, input_ids=window[None], use_cache=False))
    return logits[0, -length:].log_softmax(1)


@final
class _Rows:
    """The rows of some ids in each tensor that has one for a token, before and after."""

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
    others = kept.nonzero().flatten()
    # On the CPU: not every device has float64.
    sums = [tensor[some].cpu().double().sum(0) for some in others.split(ROWS)]
    mean = (torch.stack(sums).sum(0) / len(others)).to(tensor.dtype)
    if not mean.isfinite().all():
        raise WideneckError(
            "The mean of the rows that are not reset is not finite: name every row that holds NaN "
            "or an infinity as one to reset."
        )
    return mean.to(tensor.device)


def _read(text: Any) -> Text:
    if text is None:
        return default_text()
    return text if isinstance(text, Text) else read_text(text)
