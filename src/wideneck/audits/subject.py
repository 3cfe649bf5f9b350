"""What the sections of an audit measure: the output layer, and what its model does on a text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from wideneck.attention.config import Normalizer
from wideneck.audits.attention.settings import AttentionSettings
from wideneck.audits.clock import Clock
from wideneck.audits.measured import measured
from wideneck.audits.states import HiddenStates, Progress
from wideneck.audits.tokens.verify import Verification
from wideneck.data import Text, Windows, cut_windows
from wideneck.heads import Head
from wideneck.models import HeadWeights, LoadedModel, LogitMap
from wideneck.models.placement import Placement
from wideneck.models.ranks import ALONE, Ranks
from wideneck.models.reading import check_ids


@dataclass(kw_only=True)
class Subject:
    """The head of a model; and of the model itself what the sections asked to be kept."""

    head: HeadWeights
    text: Text | None
    """None where no section reads one."""
    clock: Clock
    seed: int
    argmaxable: bool
    settings: AttentionSettings | None
    """None for the defaults, in a context that the model has positions for."""
    normalizers: Sequence[Normalizer]
    progress: Progress | None
    cost_limit: float | None = None
    """Nats of divergence within which section "cost" chooses a head."""
    tokenizer: Any = None
    """Of the model, once it was loaded."""
    where: Placement = field(default_factory=Placement)
    """Of the model, and of what is computed after it."""
    ranks: Ranks = ALONE
    """The processes that share the windows."""
    notes: list[str] = field(default_factory=list)
    """On what could not be measured."""
    remarks: list[str] = field(default_factory=list)
    """On what was measured otherwise than it was asked for."""
    loaded: LoadedModel | None = None
    """While the model is in memory."""
    tokenizer: Any = None
    """Of the model, once it was loaded."""
    logit_map: LogitMap | None = None
    own_head: Head | None = None
    """The head of wideneck that the model has, if it has one."""
    states: HiddenStates | None = None
    """None where no section needs them, or where they are not finite."""
    verified: Verification | None = None
    """What the model said of its most suspicious tokens, if it was asked."""
    watched: dict[str, Any] = field(default_factory=dict)
    """By section, what watched the states of every depth."""
    num_read: int = 0
    """Predictions that the model was run for."""

    def windows(self, num_tokens: int, window: int) -> Windows:
        """The text cut for the loaded model.

        Raises:
            WideneckError: the tokenizer does not belong to the model.
        """
        loaded, text = self.loaded, self.text
        assert loaded is not None
        assert text is not None
        windows = cut_windows(
            text,
            loaded.tokenizer,
            num_tokens=num_tokens,
            window=window,
            prefix=loaded.bos,
            seed=self.seed,
        )
        check_ids(loaded.model, int(max(windows.ids.max(), windows.targets.max())))
        self.num_read += windows.targets.numel()
        return windows

    def measured(self, name: str, function: Callable[[], Any]) -> Any:
        """What the function gives; None, and a note, where the model's numbers do not allow it."""
        return measured(name, function, None, self.notes)

    def second_moment(self) -> Tensor | None:
        """E[x x^T], or None from so few states that its spectrum would be that of the sample."""
        if self.states is None:
            return None
        hidden = self.states.hidden.flatten(0, 1).double()
        num_tokens, width = hidden.shape
        return hidden.T @ hidden / num_tokens if num_tokens >= 2 * width else None
