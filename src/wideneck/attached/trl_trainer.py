"""What a trainer of TRL does beside the model's forward: references, rollouts, switches.

None of it reaches the model: a reference model that TRL loads itself, rollouts of vLLM and losses
of Liger know nothing of a head, and nothing would tell.  So the trainer is looked at once, when it
is built: each of TRL's then adds its tags to the model, in every version from 1.7 to 1.16.
"""

import sys
from collections.abc import Iterator
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
        if names_in_trl(builder) and frame.f_code.co_name == "__init__":
            check_trainer(builder)
            return
        frame = frame.f_back


def names_in_trl(trainer: Any) -> list[str]:
    """The trainer's classes that are TRL's own, the most derived first; none of another trainer."""
    mro = type(trainer).__mro__
    return [
        c.__name__ for c in mro if str(c.__module__).startswith("trl.") and "Trainer" in c.__name__
    ]


def check_trainer(trainer: Any) -> None:
    """Refuse what would train, compare with or sample from another distribution."""
    name = type(trainer).__name__
    model = unwrapped(trainer, trainer.model)
    policy = parts_of(model)
    for mistake in _mistakes(trainer, model, has_head=policy.head is not None):
        raise WideneckError(f"{name} {mistake}")
    if policy.head is not None and "SFTTrainer" in names_in_trl(trainer):
        _tell_sums(trainer.args, model)
    reference = getattr(trainer, "ref_model", None)
    if reference is not None:
        _check_reference(name, policy, parts_of(unwrapped(trainer, reference)))


def unwrapped(trainer: Any, model: Any) -> Any:
    """The model of transformers inside what accelerate and PEFT put around it."""
    model = trainer.accelerator.unwrap_model(model)
    base = getattr(model, "get_base_model", None)
    return model if base is None else base()


def _mistakes(trainer: Any, model: Any, *, has_head: bool) -> Iterator[str]:
    """What is wrong with a trainer, each after its name."""
    args, kinds = trainer.args, set(names_in_trl(trainer))
    rollouts = getattr(args, "use_vllm", None)
    # The asynchronous trainers have no switch: they always sample from a server.
    if rollouts or (rollouts is None and hasattr(args, "vllm_server_base_url")):
        yield (
            "would sample with vLLM, which builds the model without the parts that are of "
            "wideneck and so samples from another distribution: use a trainer with use_vllm=False."
        )
    if not has_head:
        return
    fuses = hasattr(sys.modules.get("trl.trainer.utils"), "add_fused_lm_head")
    if fuses and kinds & set(KNOWN) and not isinstance(model.asked_by_trl, FusedHead):
        yield (
            "has put a forward on the model that wideneck does not know, so it would train "
            "a softmax: use a TRL from 1.7 to 1.16."
        )
    if "SFTTrainer" in kinds and args.loss_type == "dft" and has_own_loss(model):
        yield (
            "with loss_type='dft' weighs each target by its probability, which the "
            "ranking loss, the warm-up or the cross-entropy of this model's memory has not: "
            "leave loss_type as it is, or attach the memory with alpha=0."
        )
    liger = getattr(args, "liger_kernel_config", None) or {}
    if getattr(args, "use_liger_kernel", False) and liger.get("fused_linear_cross_entropy", True):
        yield (
            "with use_liger_kernel=True multiplies by the weight of the output layer in a "
            "kernel of Liger, which leaves out this model's head: leave it False."
        )
    if getattr(args, "cast_lm_head_to_fp32", False):
        raise WideneckError(NO_CAST)
    if "DistillationTrainer" in kinds:
        yield (
            "multiplies by the weights of both output layers, which leaves out this "
            "model's head: distil with your own loss of both models' logits, which are "
            "log-probabilities."
        )


def _tell_sums(args: Any, model: Any) -> None:
    """SFT makes its loss of a sum of log-probabilities, and takes the model's own with "nll"."""
    asked = model.asked_by_trl
    if isinstance(asked, FusedHead):
        model.asked_by_trl = replace(asked, sums=True)
    elif args.loss_type == "nll":
        model.asked_by_trl = WithLogits()


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
