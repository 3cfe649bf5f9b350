"""A low_rank head for a model, fitted on a text as the audit's "fisher" truncation is.

The same windows of the text, the same half of them to fit on and the other to measure on, so that
the loss at step 0 is the one that an audit of that text has in its table.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from wideneck.attached.attaching import checked_start, put_head
from wideneck.attached.low_rank_start import LowRankStart
from wideneck.audits.output.layer import OutputLayer
from wideneck.audits.output.rank_cost import RankLoss, fitting_half, rank_losses
from wideneck.audits.output.truncated import fit_truncation, mean_prediction
from wideneck.audits.states import HiddenStates, collect_states
from wideneck.config import HeadConfig, LowRank, head_config
from wideneck.data import Text, cut_windows, text_of
from wideneck.entry.audit import TOKENS, TOKENS_A_WIDTH, window_of
from wideneck.errors import WideneckError
from wideneck.functional.gram import gram
from wideneck.heads.low_rank import check_rank
from wideneck.models import LogitMap, evaluating, load_language_model, read_head
from wideneck.models.placement import placed
from wideneck.models.reading import check_ids
from wideneck.registry import shown

ROUND = 8
"""Ranks that are predicted in one pass; the logits of one contain those of the ones below."""


@torch.no_grad()
def attach_low_rank(
    model: Any,
    head: str | dict | HeadConfig,
    options: dict[str, Any],
    *,
    nats: float | None,
    text: Any,
    tokenizer: Any,
    num_tokens: int | None,
) -> Any:
    """`wideneck.attach` of a low_rank; the arguments are those of it."""
    width = model.get_output_embeddings().weight.shape[1]
    rank = _asked(head, options, nats, width)
    if num_tokens is not None and (not isinstance(num_tokens, int) or num_tokens < 1):
        raise WideneckError(
            f"A whole number of at least one token is read; {shown(num_tokens)} were asked for."
        )
    _, logit_map = checked_start(model, LowRank(rank=rank or width), {})
    if num_tokens is None:
        num_tokens = max(TOKENS, TOKENS_A_WIDTH * width)
    chosen = text_of(text)
    states = _states(model, chosen, tokenizer, num_tokens)
    layer, fit = _layer(model, logit_map), fitting_half(states.document)
    states = states.to(layer.weight.device)
    layer.check(*states.probe, type(model).__name__)
    fitted = states.hidden[fit].flatten(0, 1).double()
    if len(fitted) < 2 * width or fit.all():
        raise WideneckError(
            f"A low_rank head is fitted on {2 * width:,} tokens or more, twice the hidden size, "
            f"and measured on others; of {chosen.name} there are {len(fitted):,} to fit on: give a "
            f"longer text, and num_tokens={4 * width} or more."
        )
    mean, centred = gram(layer.weight)
    p = mean_prediction(layer, fitted.float())
    truncation = fit_truncation("fisher", layer.weight, mean, centred, fitted, p)

    def losses(ranks: Sequence[int]) -> list[RankLoss]:
        return rank_losses(truncation, "fisher", layer, states, ~fit, ranks)

    if rank is not None:
        (found,) = losses([rank])
    else:
        assert nats is not None
        found = smallest_rank(losses, nats, width)
    put_head(model, LowRank(rank=found.rank), {})
    placed_head = model.get_output_embeddings()
    placed_head.start_from(
        truncation.inner[:, : found.rank].double(), truncation.outer[:, : found.rank]
    )
    placed_head.start = LowRankStart(
        rank=found.rank,
        hidden_size=width,
        text=chosen.name,
        text_sha256=chosen.sha256,
        num_fit_tokens=len(fitted),
        num_test_tokens=states.targets[~fit].numel(),
        predicted=found.predicted,
        measured=found.measured.value,
        low=found.measured.low,
        high=found.measured.high,
    )
    return model


def smallest_rank(
    losses: Callable[[Sequence[int]], list[RankLoss]], nats: float, width: int
) -> RankLoss:
    """A rank below `width` that is predicted to lose at most `nats`, and the one below it more.

    The second-order term has to be within the limit, too, by itself: where the first-order term is
    negative a cut seems to gain, because the model is not calibrated on this text, or by chance.

    Args:
        losses: the audit's rows of some rising ranks.

    Raises:
        WideneckError: not even `width` - 1 does.
    """
    (found,) = losses([width - 1]) if width > 1 else (None,)
    if found is None or not _lost(found) <= nats:
        nearest = "" if found is None else f"; rank {width - 1} loses {_lost(found):.3g}"
        raise WideneckError(
            f"No rank below the hidden size {width} is predicted to lose at most {nats:g} nats a "
            f"token on this text{nearest}: allow more."
        )
    low, high = 0, width - 1
    while high - low > 1:
        count = min(ROUND, high - low - 1)
        ranks = [low + (high - low) * (i + 1) // (count + 1) for i in range(count)]
        for point in losses(ranks):
            if _lost(point) <= nats:
                found, high = point, point.rank
                break
            low = point.rank
    return found


def _lost(point: RankLoss) -> float:
    return max(point.predicted, point.fisher)


def _asked(head: Any, options: dict[str, Any], nats: Any, width: int) -> int | None:
    """The rank that was asked for; None where it is to follow from `nats`."""
    given = {"rank": head.rank} if isinstance(head, LowRank) else {}
    given |= {k: v for k, v in head.items() if k != "name"} if isinstance(head, dict) else {}
    given |= options
    rank = given.pop("rank", None)
    head_config(LowRank.name, rank=1, **given)  # refuses what no low_rank has
    if (rank is None) == (nats is None):
        came = "neither" if rank is None else "both"
        raise WideneckError(
            "A low_rank head is attached with a rank, rank=288 or as a share of the hidden size "
            f"rank=0.5, or with what it may lose, nats=0.05; {came} came."
        )
    if nats is not None:
        number = isinstance(nats, int | float) and not isinstance(nats, bool)
        if not number or not 0 < nats < math.inf:
            raise WideneckError(
                "nats is what a low_rank head may lose a token, a number above 0, got "
                f"{shown(nats)}."
            )
        return None
    if isinstance(rank, float):
        if not 0 < rank <= 1:
            raise WideneckError(
                "The rank of a low_rank head is a whole number, or a share of the hidden size "
                f"above 0 and at most 1, got {rank}."
            )
        return max(1, round(rank * width))
    checked = head_config(LowRank.name, rank=rank)
    assert isinstance(checked, LowRank)
    check_rank(checked.rank, width)
    return checked.rank


def _states(model: Any, text: Text, tokenizer: Any, num_tokens: int) -> HiddenStates:
    """As an audit with seed 0 reads them."""
    loaded = load_language_model(model, tokenizer=tokenizer)
    windows = cut_windows(
        text,
        loaded.tokenizer,
        num_tokens=num_tokens,
        window=window_of(loaded),
        prefix=loaded.bos,
    )
    check_ids(model, int(max(windows.ids.max(), windows.targets.max())))
    with evaluating(model):
        return collect_states(model, windows)


def _layer(model: Any, logit_map: LogitMap) -> OutputLayer:
    head = read_head(model).to(placed(model).measuring)
    return OutputLayer.of(head, logit_map)
