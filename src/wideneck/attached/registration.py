"""Teaches transformers the model type "wideneck", once something of wideneck is used.

That must not import what is not imported yet (transformers takes seconds, and PEFT or the Trainer
may never be wanted), and transformers looks for no plugins.  So the registrations wait for the
modules that hold the lists to extend: a finder in front of the others lets them find the module,
and has the registration follow its execution.

What PEFT cannot do with a head waits for PEFT in the same way, and is said in our words as soon as
it is asked for.  PEFT's adapters and its trainable rows are for linear layers and embeddings, and a
head is neither.  Two of its ways fit: `modules_to_save` trains a copy of the whole head, and
`target_parameters` puts a low-rank adapter on its matrix.
"""

import functools
import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any

from wideneck.errors import WideneckError

_FOLLOW_UPS = {
    "peft.tuners.lora.model": ("registration.say_of_lora",),
    "peft.utils.other": ("registration.say_of_tokens",),
    "transformers.models.auto.configuration_auto": ("saved_config.register_config",),
    "transformers.models.auto.modeling_auto": ("auto_model.register_model",),
    "transformers.trainer": ("parameter_groups.teach_trainer", "trainer_card.teach_trainer"),
}
"""By module, what is called with it: functions in the files of this folder."""
INSTEAD = (
    "train a copy of the whole head, as in modules_to_save=['lm_head'], or, but not under TRL, put "
    "an adapter on its matrix, as in target_parameters=['lm_head.weight']"
)


def _follow_up(module: ModuleType) -> None:
    for place in _FOLLOW_UPS[module.__name__]:
        file, name = place.split(".")
        getattr(import_module(f"wideneck.attached.{file}"), name)(module)


class _FollowUp(MetaPathFinder):
    """Finds what the other finders find, with one more step after the module's execution."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname not in _FOLLOW_UPS:
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        specs = (finder.find_spec(fullname, path, target) for finder in others)
        spec: Any = next((spec for spec in specs if spec is not None), None)
        if spec is not None:
            execute = spec.loader.exec_module

            def exec_module(module: Any) -> None:
                execute(module)
                _follow_up(module)

            spec.loader.exec_module = exec_module
        return spec


def register() -> None:
    """Register now what is already imported, and the rest when it is; again it changes nothing."""
    if any(isinstance(finder, _FollowUp) for finder in sys.meta_path):
        return
    for name in _FOLLOW_UPS:
        if name in sys.modules:
            _follow_up(sys.modules[name])
    sys.meta_path.insert(0, _FollowUp())


def say_of_lora(lora_model: Any) -> None:
    """Follows the import of `peft.tuners.lora.model`: a head among the target modules."""
    made = lora_model.LoraModel._create_new_module

    @functools.wraps(made)
    def create(config: Any, adapter_name: str, target: Any, **kwargs: Any) -> Any:
        try:
            return made(config, adapter_name, target, **kwargs)
        except ValueError as error:
            if not _is_head(target):
                raise
            raise WideneckError(
                f"LoRA of PEFT on target_modules is for linear layers, and the output layer of "
                f"this model is a {type(target).__name__} of wideneck: {INSTEAD}."
            ) from error

    lora_model.LoraModel._create_new_module = staticmethod(create)


def say_of_tokens(other: Any) -> None:
    """Follows the import of `peft.utils.other`: rows of a head, or of an embedding tied to it."""
    made = other.TrainableTokensWrapper.__init__

    @functools.wraps(made)
    def init(self: Any, module_to_save: Any, *args: Any, **kwargs: Any) -> None:
        if _is_head(module_to_save):
            raise WideneckError(
                "trainable_token_indices of PEFT trains rows of embeddings and linear layers, and "
                f"a {type(module_to_save).__name__} of wideneck would have to take part, as the "
                "output layer or tied to the embedding: attach the head with tie=False and leave "
                f"it out, or {INSTEAD}."
            )
        made(self, module_to_save, *args, **kwargs)

    other.TrainableTokensWrapper.__init__ = init


def _is_head(module: Any) -> bool:
    from wideneck.attached.head_in_model import HeadInModel

    return isinstance(module, HeadInModel)
