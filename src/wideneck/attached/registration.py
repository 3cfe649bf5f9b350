"""Teaches transformers the model type "wideneck", once something of wideneck is used.

That must not import what is not imported yet (transformers takes seconds, and PEFT or the Trainer
may never be wanted), and transformers looks for no plugins.  So the registrations wait for the
modules that hold the lists to extend: a finder in front of the others lets them find the module,
and has the registration follow its execution.  What PEFT says of our heads waits for PEFT in the
same way.
"""

import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any

_FOLLOW_UPS = {
    "peft.tuners.lora.model": ("peft_words.say_of_lora",),
    "peft.utils.other": ("peft_words.say_of_tokens",),
    "transformers.models.auto.configuration_auto": ("saved_config.register_config",),
    "transformers.models.auto.modeling_auto": ("auto_model.register_model",),
    "transformers.trainer": ("parameter_groups.teach_trainer", "model_card.teach_trainer"),
}
"""By module, what is called with it: functions in the files of this folder."""


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
