"""Teaches transformers the model type "wideneck", once something of wideneck is used.

That must not import what is not imported yet (transformers takes seconds, and PEFT or the Trainer
may never be wanted), and transformers looks for no plugins.  So the registrations wait for the
modules that hold the lists to extend: a finder in front of the others lets them find the module,
and has the registration follow its execution.  What PEFT says of our heads waits for PEFT in the
same way.
"""

import sys
from importlib.abc import MetaPathFinder
from typing import Any


def _register_config(configuration_auto: Any) -> None:
    from wideneck.attached.saved_config import WideneckConfig

    configuration_auto.AutoConfig.register(WideneckConfig.model_type, WideneckConfig)


def _register_model(modeling_auto: Any) -> None:
    from wideneck.attached.auto_model import WideneckForCausalLM
    from wideneck.attached.saved_config import WideneckConfig

    for auto in (
        modeling_auto.AutoModelForCausalLM,
        modeling_auto.AutoModelForSeq2SeqLM,
        modeling_auto.AutoModelForImageTextToText,
        modeling_auto.AutoModelForSpeechSeq2Seq,
    ):
        auto.register(WideneckConfig, WideneckForCausalLM)


def _register_trainer(trainer: Any) -> None:
    from wideneck.attached import model_card, trainer_groups

    trainer_groups.teach(trainer)
    model_card.teach(trainer)


def _say_of_lora(lora_model: Any) -> None:
    from wideneck.attached.peft_words import say_of_lora

    say_of_lora(lora_model)


def _say_of_tokens(other: Any) -> None:
    from wideneck.attached.peft_words import say_of_tokens

    say_of_tokens(other)


_FOLLOW_UPS = {
    "peft.tuners.lora.model": _say_of_lora,
    "peft.utils.other": _say_of_tokens,
    "transformers.models.auto.configuration_auto": _register_config,
    "transformers.models.auto.modeling_auto": _register_model,
    "transformers.trainer": _register_trainer,
}


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
                _FOLLOW_UPS[fullname](module)

            spec.loader.exec_module = exec_module
        return spec


def register() -> None:
    """Register now what is already imported, and the rest when it is; again it changes nothing."""
    if any(isinstance(finder, _FollowUp) for finder in sys.meta_path):
        return
    for name, follow_up in _FOLLOW_UPS.items():
        if name in sys.modules:
            follow_up(sys.modules[name])
    sys.meta_path.insert(0, _FollowUp())
