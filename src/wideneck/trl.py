"""Trainers of TRL on a model with a head or a memory: `wn.trl.fused(trainer)`."""

from typing import Any

from wideneck.attached.saved import parts_of as _parts_of
from wideneck.attached.trl_trainer import KNOWN, check_trainer, names_in_trl
from wideneck.attached.trl_trainer import unwrapped as _unwrapped
from wideneck.errors import WideneckError


def fused(trainer: Any) -> Any:
    """Check that a trainer of TRL trains the model's head or memory; call it after constructing it.

    The model answers TRL's fused forward by itself, and is checked when a trainer is built; this is
    the way to be sure of it, and to hear why not: of a model that has lost its head on the way, of
    a TRL whose forward is not known, of a reference model without the head.

    Args:
        trainer: an SFTTrainer, DPOTrainer, KTOTrainer, GRPOTrainer or RLOOTrainer of TRL 1.7 to
            1.16, or of a class derived from one.

    Returns:
        The trainer.

    Raises:
        WideneckError: another trainer, a model without a head, a reference model with another head,
            rollouts with vLLM, losses of Liger, an unknown version of TRL.
    """
    if not names_in_trl(trainer):
        raise WideneckError(
            f"wideneck.trl.fused needs a trainer of TRL, got {type(trainer).__name__}: the Trainer "
            "of transformers trains a head as it is."
        )
    name = type(trainer).__name__
    model = _unwrapped(trainer, trainer.model)
    if _parts_of(model).head is None:
        raise WideneckError(
            f"The model of this {name} has no head or memory of wideneck: give the trainer what "
            "wideneck.attach or wideneck.load returns."
        )
    check_trainer(trainer)
    if not set(KNOWN) & set(names_in_trl(trainer)):
        raise WideneckError(
            f"wideneck.trl.fused knows {', '.join(KNOWN)}, not {name}: compare its loss with that "
            "of the model's logits, which are log-probabilities, before you rely on it."
        )
    return trainer
