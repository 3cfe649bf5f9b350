"""What passes by while a model reads: what enters its head, and what each layer takes and gives.

Everything is heard by hooks, so that no architecture has to be listed, and nothing is kept that the
listener does not keep.  Shapes: B rows, T positions, D hidden size.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, final

from torch import Tensor, nn

from wideneck.errors import WideneckError
from wideneck.models.text_part import text_config, text_modules

Seen = Callable[[nn.Module, Any], None]
"""Called as seen(layer, what passes)."""


@final
class Entering:
    """What entered the output layer of a model, call by call."""

    def __init__(self, model: Any, refused: type[WideneckError]):
        self.calls: list[Tensor] = []
        self._name, self._refused = type(model).__name__, refused

    def only(self) -> Tensor:
        """(B, T, D) of the one call since `calls` was cleared.

        Raises:
            WideneckError: there was none, or more than one.
        """
        if len(self.calls) != 1:
            raise self._refused(
                f"{self._name} called its output layer {len(self.calls)} times in one pass, not "
                "once, so what enters it cannot be told."
            )
        return self.calls[0]


@contextmanager
def entering_head(
    model: Any, *, last: int | None = None, refused: type[WideneckError] = WideneckError
) -> Iterator[Entering]:
    """Inside, what enters the output layer is kept.

    Args:
        model: a causal language model of transformers.
        last: the layer itself sees this many positions only, so that logits of all are never
            formed; None for all.
        refused: what `Entering.only` raises.
    """
    entering = Entering(model, refused)

    def before_head(_: nn.Module, args: tuple[Tensor, ...]) -> Any:
        entering.calls.append(args[0])
        return None if last is None else (args[0][:, -last:], *args[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(before_head)
    try:
        yield entering
    finally:
        handle.remove()


@contextmanager
def hearing(
    *, before: Sequence[nn.Module] = (), after: Sequence[nn.Module] = (), seen: Seen
) -> Iterator[None]:
    """Inside, `seen` is told of what some modules take, and of what others give.

    Args:
        before: told of with their first argument, a layer's hidden states.
        after: told of with their output, whatever its form.
        seen: the listener.
    """

    def taken(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        seen(module, args[0] if args else kwargs["hidden_states"])

    def given(module: nn.Module, _args: Any, output: Any) -> None:
        seen(module, output)

    handles = [layer.register_forward_pre_hook(taken, with_kwargs=True) for layer in before]
    handles += [layer.register_forward_hook(given) for layer in after]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def decoder_layers(model: Any) -> list[nn.Module]:
    """The stack of layers: the one ModuleList as long as the config says; else nothing.

    Found by its length, not by its name, so that no architecture has to be listed, in the part that
    reads text: a tower may have as many.  Layers that are one module, used again, cannot be told
    from one another: nothing, too.
    """
    num_layers = text_config(model.config).num_hidden_layers
    parts = text_modules(model)
    stacks = [m for m in parts if isinstance(m, nn.ModuleList) and len(m) == num_layers]
    layers = list(stacks[0]) if len(stacks) == 1 else []
    return layers if len(set(layers)) == len(layers) else []


def check_ids(model: Any, largest: int) -> None:
    """Refuse a text whose largest id has no row in the model.

    Raises:
        WideneckError: the tokenizer is not the model's.
    """
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    rows = min(len(layer.weight) for layer in layers)
    if largest >= rows:
        raise WideneckError(
            f"The tokenizer gives id {largest}, the model has {rows} rows: they do not belong "
            "together; give the model's own tokenizer."
        )
