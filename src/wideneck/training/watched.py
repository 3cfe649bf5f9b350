"""The output layer of a run under way, watched."""

from typing import Any

from torch import nn

from wideneck.models.small.language_model import LanguageModel
from wideneck.training.recipe import Watching
from wideneck.watching.watch import Watch


def watched(model: Any, config: Watching, step: int) -> Watch:
    """Follows the head of a run's model from the step after `step` on.

    A run asks its head for the loss, not by a call of the layer, so the states are taken where they
    leave the backbone; of a head alone they are the input.
    """
    watch = Watch(
        head=model.head,
        scores_every=config.scores_every,
        weights_every=config.weights_every,
        spectra_every=config.spectra_every,
        tokens=config.tokens,
        limit=config.limit or None,
    )
    watch.follow(model, step)
    if not isinstance(model, LanguageModel):

        def enter(_: nn.Module, args: tuple[Any, ...]) -> None:
            watch.see(args[0], args[1])

        model.register_forward_pre_hook(enter)
        return watch
    target: list[Any] = [None]

    def remember(_: nn.Module, args: tuple[Any, ...]) -> None:
        target[0] = args[1]

    def leave(_module: nn.Module, _args: Any, output: Any) -> None:
        watch.see(output.hidden, target[0])

    model.register_forward_pre_hook(remember)
    model.backbone.register_forward_hook(leave)
    return watch
