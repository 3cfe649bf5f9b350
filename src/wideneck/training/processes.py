"""The processes that train together, as accelerate's launcher has started them."""

import os
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from accelerate import Accelerator, DistributedType, InitProcessGroupKwargs
from accelerate.utils import broadcast_object_list

from wideneck.errors import WideneckError

Made = TypeVar("Made")

WAIT = timedelta(hours=2)
"""How long processes wait for the first, which may have hidden states to compute."""


def started() -> Accelerator:
    """What accelerate makes of the environment."""
    accelerator = Accelerator(kwargs_handlers=[InitProcessGroupKwargs(timeout=WAIT)])
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world != accelerator.num_processes:
        raise WideneckError(
            f"{world} processes were started that do not know of each other; start them by "
            "accelerate launch, with --cpu where there is no accelerator."
        )
    kind = accelerator.distributed_type
    if kind in (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise WideneckError(f"A run shares its model by DDP or FSDP2, not by {kind.value.lower()}.")
    if kind == DistributedType.FSDP and not accelerator.is_fsdp2:
        raise WideneckError(
            "A run shares its model by version 2 of FSDP; start it with --fsdp_version 2."
        )
    if accelerator.scaler is not None:
        raise WideneckError("A run does not scale losses for fp16; start it with bf16, or without.")
    wanted = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if accelerator.mixed_precision != wanted:
        # accelerate keeps what the first Accelerator of a process asked for, a Trainer's too.
        raise WideneckError(
            f"Something in this process has set accelerate to mixed precision "
            f"'{accelerator.mixed_precision}', where the run wants '{wanted}'; start the run in a "
            "process of its own."
        )
    if accelerator.gradient_accumulation_steps != 1:
        raise WideneckError(
            "A run takes one step a batch; start it without gradient accumulation, and set "
            "batch_size in the recipe."
        )
    if accelerator.is_fsdp2:
        # Each process makes the same weights from the seed.  Loaded from the first one's into an
        # empty model, those that are tied would come apart.
        plugin = accelerator.state.fsdp_plugin
        assert plugin is not None
        plugin.cpu_ram_efficient_loading = False
    return accelerator


def in_order(accelerator: Accelerator, work: Callable[[], Made]) -> Made:
    """The same work in every process, first in the first; what that one refuses, all refuse."""
    if accelerator.num_processes == 1:
        return work()
    refused: list[str | None] = [None]
    made = None
    if accelerator.is_main_process:
        try:
            made = work()
        except WideneckError as error:
            refused = [str(error)]
    broadcast_object_list(refused)
    if refused[0] is not None:
        raise WideneckError(refused[0])
    return work() if made is None else made
