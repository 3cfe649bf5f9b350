"""A head alone, on the cached hidden states of a model that stays as it is, as a task."""

import math
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from wideneck import heads
from wideneck.attached.probe import LogitRange
from wideneck.attached.start import start_config
from wideneck.audits.states import Progress
from wideneck.config import HeadConfig, LowRank, to_dict
from wideneck.data import Text, read_corpus
from wideneck.errors import WideneckError
from wideneck.heads import Head, low_rank_from
from wideneck.models import LogitMap
from wideneck.models.small.config import States
from wideneck.models.small.language_model import Step
from wideneck.training.batches import Rows, Task, rows_in_order
from wideneck.training.checkpoint import load_model
from wideneck.training.folder import CHECKPOINT, MODEL
from wideneck.training.recipe import Recipe
from wideneck.training.state_cache import CachedStates, cached_states
from wideneck.training.tensor_file import Stored

HEAD, LOGIT_SCALE = "head", "logit_scale"
"""What a head starts as, of which only the states tell a part, beside its weights."""
PROBED = 1024
"""States on which the range of the model's logits is taken."""


class HeadAlone(nn.Module):
    """A head with the loss of its own, called as the loop calls every model."""

    def __init__(self, head: Head):
        super().__init__()
        self.head = head

    def forward(self, hidden: Tensor, target: Tensor, state: list[Tensor]) -> Step:
        """The mean loss of states (N, D) and targets (N,); nothing is carried."""
        return Step(self.head.nll(hidden, target, reduction="mean"), 0.0, [])


def states_task(
    recipe: Recipe, out: Path, share: tuple[int, int], progress: Progress | None
) -> Task:
    """Cached states and a head of a recipe; the states are kept beside the run's folder `out`."""
    config = recipe.model
    assert isinstance(config, States)
    check_start(recipe.head, config.start)
    states = recipe_states(recipe, out.parent, progress)
    model = HeadAlone(head_on(states, recipe, config.start))
    if recipe.initial is not None and not os.path.exists(out / CHECKPOINT):
        initial = Stored(Path(recipe.initial).expanduser() / MODEL)
        load_model(model, initial)
        initial.say_if_without_sums()
    train = states.splits["train"]
    in_order = {
        name: rows_in_order(split.hidden, split.target, recipe.training)
        for name, split in states.splits.items()
        if name != "train"
    }
    return Task(
        model=model,
        batches=Rows(train.hidden, train.target, recipe.training, recipe.seed, share),
        valid=in_order["valid"],
        about={"states": states.about.to_dict()},
        # Not compared: the start of a head depends on the rounding of the states.
        described={HEAD: to_dict(model.head.config), LOGIT_SCALE: states.logit_scale},
        test=in_order.get("test"),
    )


def recipe_states(recipe: Recipe, folder: Path, progress: Progress | None = None) -> CachedStates:
    """The states that a recipe trains on, from a cache in `folder` or computed and kept there."""
    assert isinstance(recipe.model, States)
    corpus = read_corpus(recipe.data.text)
    splits = {"train": corpus.train, "valid": corpus.valid, "test": corpus.test}
    texts = {
        split: Text(
            name=f"{corpus.name} ({split})",
            documents=[document for document in documents if document.strip()],
            sha256=f"{corpus.sha256} {split}",
        )
        for split, documents in splits.items()
        if documents is not None
    }
    if recipe.model.test_tokens and "test" not in texts:
        raise WideneckError(f"{corpus.name} has no test split: leave test_tokens out.")
    return cached_states(recipe.model, texts, folder, progress=progress)


@torch.no_grad()
def head_on(states: CachedStates, recipe: Recipe, start: str) -> Head:
    """A head for these states, where the recipe starts it; random parts from torch's generator."""
    vocab_size, hidden_size = states.weight.shape
    config, bias = recipe.head, states.bias
    check_start(config, start)
    if start == "whitened":
        assert isinstance(config, LowRank)
        hidden = states.splits["train"].hidden
        moment = torch.zeros(hidden_size, hidden_size, dtype=torch.float64)
        for part in hidden.split(4096):
            part = part.double()
            moment.addmm_(part.T, part)
        return low_rank_from(
            states.weight,
            config.rank,
            second_moment=moment / len(hidden),
            bias=bias,
            logit_scale=states.logit_scale,
        )
    if start == "own":
        logit_map = LogitMap("scale", states.logit_scale)
        name = states.about.model
        config = start_config(config, {}, logit_map, lambda: _logit_range(states), name)
    head = heads.build(
        config,
        hidden_size=hidden_size,
        vocab_size=vocab_size,
        bias=bias is not None,
        logit_scale=states.logit_scale,
    )
    if start == "own":
        head.weight.copy_(states.weight)
        if head.bias is not None and bias is not None:
            head.bias.copy_(bias)
    return head


def check_start(config: HeadConfig, start: str) -> None:
    """Refuse what no model's states would help, before they are computed."""
    if start == "whitened" and not isinstance(config, LowRank):
        raise WideneckError('start = "whitened" is for the head low_rank; use "own".')
    if start == "own":
        if isinstance(config, LowRank):
            raise WideneckError('A low_rank head starts "whitened" or "random", not "own".')
        some = LogitRange(lowest=-1.0, highest=1.0, mean=0.0)
        start_config(config, {}, LogitMap("identity"), lambda: some, "the model")


def _logit_range(states: CachedStates) -> LogitRange:
    """The range of the model's logits on states spread over the training text."""
    hidden = states.splits["train"].hidden
    low, high, means = math.inf, -math.inf, []
    for part in hidden[:: max(1, len(hidden) // PROBED)].split(128):
        logits = part @ states.weight.T
        if states.bias is not None:
            logits += states.bias
        logits *= states.logit_scale
        low, high = min(low, logits.min().item()), max(high, logits.max().item())
        means.append((logits.softmax(-1) * logits).sum(-1))
    return LogitRange(lowest=low, highest=high, mean=torch.cat(means).mean().item())
