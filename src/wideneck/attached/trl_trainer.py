"""What a trainer of TRL does beside the model's forward: references, rollouts, switches.

None of it reaches the model: a reference model that TRL loads itself, rollouts of vLLM and losses
of Liger know nothing of a head, and nothing would tell.  So the trainer is looked at once, when it
is built: each of TRL's then adds its tags to the model, in every version from 1.7 to 1.16.
"""

import sys
from dataclasses import replace
from typing import Any

from wideneck.attached.saved import Saved, parts_of
from wideneck.attached.trl_forward import NO_CAST, FusedHead, WithLogits, has_own_loss
from wideneck.errors import WideneckError

KNOWN = ("SFTTrainer", "DPOTrainer", "KTOTrainer", "GRPOTrainer", "RLOOTrainer")
"""The trainers that are known to be right after `check_trainer`."""


def check_builder() -> None:
    """`check_trainer` for the trainer of TRL in whose construction this is called, if it is."""
    frame = sys._getframe(1)
    while frame is not None:
        builder = frame.f_locals.get("self")
        if is_trl_trainer(builder) and frame.f_code.co_name == "__init__":
            check_trainer(builder)
            return
        frame = frame.f_back


def is_trl_trainer(trainer: Any) -> bool:
    """Whether its class comes from TRL, or derives from one that does."""
    return names_in_trl(trainer) != []


def names_in_trl(trainer: Any) -> list[str]:
    """The trainer's classes that are TRL's own, the most derived first."""
    mro = type(trainer).__mro__
    return [
        c.__name__ for c in mro if str(c.__module__).startswith("trl.") and "Trainer" in c.__name__
    ]


def check_trainer(trainer: Any) -> None:
    """Refuse what would train, compare with or sample from another distribution.

    Raises:
        WideneckError: names the switch or the model, and what to do instead.
    """
    name = type(trainer).__name__
    model = unwrapped(trainer, trainer.model)
    policy = parts_of(model)
    _check_rollouts(name, trainer.args)
    if policy.head is not None:
        _check_version(name, trainer, model)
        if "SFTTrainer" in names_in_trl(trainer):
            _prepare_sft(name, trainer.args, model)
        _check_switches(name, trainer.args)
        _check_distillation(name, trainer)
    reference = getattr(trainer, "ref_model", None)
    if reference is not None:
        _check_reference(name, policy, parts_of(unwrapped(trainer, reference)))


def unwrapped(trainer: Any, model: Any) -> Any:
    """The model of transformers inside what accelerate and PEFT put around it."""
    model = trainer.accelerator.unwrap_model(model)
    base = getattr(model, "get_base_model", None)
    return model if base is None else base()


def _check_rollouts(name: str, args: Any) -> None:
    asked = getattr(args, "use_vllm", None)
    # The asynchronous trainers have no switch: they always sample from a server.
    if asked or (asked is None and hasattr(args, "vllm_server_base_url")):
        raise WideneckError(
            f"{name} would sample with vLLM, which builds the model without the parts that are of "
            "wideneck and so samples from another distribution: use a trainer with use_vllm=False."
        )


def _check_version(name: str, trainer: Any, model: Any) -> None:
    fuses = hasattr(sys.modules.get("trl.trainer.utils"), "add_fused_lm_head")
    known = set(KNOWN) & set(names_in_trl(trainer))
    if fuses and known and not isinstance(model.asked_by_trl, FusedHead):
        raise WideneckError(
            f"{name} has put a forward on the model that wideneck does not know, so it would train "
            "a softmax: use a TRL from 1.7 to 1.16."
        )


def _prepare_sft(name: str, args: Any, model: Any) -> None:
    """SFT makes its loss of a sum of log-probabilities, and takes the model's own with "nll"."""
    if args.loss_type == "dft" and has_own_loss(model):
        raise WideneckError(
            f"{name} with loss_type='dft' weighs each target by its probability, which the "
            "ranking loss, the warm-up or the cross-entropy of this model's memory has not: "
            "leave loss_type as it is, or attach the memory with alpha=0."
        )
    asked = model.asked_by_trl
    if isinstance(asked, FusedHead):
        model.asked_by_trl = replace(asked, sums=True)
    elif args.loss_type == "nll":
        model.asked_by_trl = WithLogits()


def _check_switches(name: str, args: Any) -> None:
    liger = getattr(args, "liger_kernel_config", None) or {}
    if getattr(args, "use_liger_kernel", False) and liger.get("fused_linear_cross_entropy", True):
        raise WideneckError(
            f"{name} with use_liger_kernel=True multiplies by the weight of the output layer in a "
            "kernel of Liger, which leaves out this model's head: leave it False."
        )
    if getattr(args, "cast_lm_head_to_fp32", False):
        raise WideneckError(NO_CAST)


def _check_distillation(name: str, trainer: Any) -> None:
    if "DistillationTrainer" in names_in_trl(trainer):
        raise WideneckError(
            f"{name} multiplies by the weights of both output layers, which leaves out this "
            "model's head: distil with your own loss of both models' logits, which are "
            "log-probabilities."
        )


def _check_reference(name: str, policy: Saved, reference: Saved) -> None:
    if policy == reference:
        return
    if any(kind in name for kind in ("GRPO", "RLOO")):
        advice = (
            "save the model with save_pretrained and train what wideneck.load reads from that "
            "folder, from where the reference is then loaded, too"
        )
    else:
        advice = "pass ref_model=copy.deepcopy(model)"
    raise WideneckError(
        f"The reference model of this {name} has another head, memory or normalizer than the model "
        f"that is trained, or none: {advice}."
    )
