"""What PEFT cannot do with a head, said in our words as soon as it is asked for.

PEFT's adapters and its trainable rows are for linear layers and embeddings, and a head is neither.
Two of its ways fit: `modules_to_save` trains a copy of the whole head, and `target_parameters`
puts a low-rank adapter on its matrix.
"""

import functools
from typing import Any

from wideneck.errors import WideneckError

INSTEAD = (
    "train a copy of the whole head, as in modules_to_save=['lm_head'], or, but not under TRL, put "
    "an adapter on its matrix, as in target_parameters=['lm_head.weight']"
)


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
