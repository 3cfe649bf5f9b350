"""The states that enter an output layer, and the targets of the call that they belong to."""

from collections.abc import Callable
from typing import Any, final

from torch import Tensor, nn

from wideneck.attached.head_in_model import shifted
from wideneck.errors import WideneckError
from wideneck.models.head_weights import output_layer

See = Callable[[Tensor, Tensor | None], None]


@final
class Listener:
    """Hooks on a model and its output layer; `close` takes them away.

    Args:
        model: whose forward takes labels.
        layer: is called with the states.
        see: is told of the states (..., D) and their targets (...), None where the call has none.
    """

    def __init__(self, model: nn.Module, layer: nn.Module, see: See):
        self.layer, self._see = layer, see
        self._options: dict[str, Any] = {}
        self._hooks = [
            model.register_forward_pre_hook(_Hook(self._called), with_kwargs=True),
            layer.register_forward_pre_hook(_Hook(self._entered), with_kwargs=True),
        ]

    def close(self) -> None:
        """The model is as it was."""
        for hook in self._hooks:
            hook.remove()

    def _called(self, _args: tuple, options: dict[str, Any]) -> None:
        self._options = {name: options.get(name) for name in ("labels", "shift_labels")}

    def _entered(self, args: tuple, _options: dict[str, Any]) -> None:
        options, self._options = self._options, {}
        if not args:
            return
        hidden, target = args[0], options.get("shift_labels")
        if target is None and options.get("labels") is not None:
            target = shifted(options["labels"], -100)
        if target is not None and target.shape != hidden.shape[:-1]:
            target = None  # the model has left positions out
        self._see(hidden, target)


@final
class _Hook:
    """A hook that stays with its module: a copy of the module, or a pickled one, has it not."""

    def __init__(self, do: Callable[[tuple, dict[str, Any]], None]):
        self._do = do

    def __call__(self, _module: nn.Module, args: tuple, options: dict[str, Any]) -> None:
        self._do(args, options)

    def __deepcopy__(self, _memo: dict) -> Callable:
        return _nothing

    def __reduce__(self):
        return _give_nothing, ()


def _nothing(_module: nn.Module, _args: tuple, _options: dict[str, Any]) -> None:
    """In the place of a hook."""


def _give_nothing() -> Callable:
    return _nothing


def watched_layer(model: Any) -> tuple[Any, nn.Module]:
    """The causal language model of transformers in a model, and its output layer.

    Raises:
        WideneckError: there is none, or it has an encoder.
    """
    inside = [part for part in model.modules() if getattr(part, "get_output_embeddings", None)]
    for part in inside:
        try:
            layer = part.get_output_embeddings()
        except (AttributeError, NotImplementedError):  # how transformers says that a part has none
            continue
        if layer is None:
            continue
        if part.config.is_encoder_decoder:
            raise WideneckError(
                f"Watch follows models that predict their own next token, and {type(part).__name__}"
                " has an encoder."
            )
        return part, output_layer(part)
    raise WideneckError(
        f"Watch needs an output layer to watch, and {type(model).__name__} names none: expected a "
        "causal language model of transformers; of another model, name the layer that is called "
        "with the hidden states, as in wideneck.Watch(model, head=model.lm_head)."
    )
