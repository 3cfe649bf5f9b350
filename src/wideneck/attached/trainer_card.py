"""The Trainer of transformers writes model cards of its own, which ours complete."""

import functools
from typing import Any

from wideneck.attached.model import SavedModel
from wideneck.attached.model_card import complete_card


def teach_trainer(trainer: Any) -> None:
    """Have the Trainer of transformers complete its cards of such models."""
    cls = trainer.Trainer
    create, push = cls.create_model_card, cls.push_to_hub

    @functools.wraps(create)
    def create_model_card(self: Any, *args: Any, **kwargs: Any) -> None:
        create(self, *args, **kwargs)
        _complete_of(self)

    @functools.wraps(push)
    def push_to_hub(self: Any, *args: Any, **kwargs: Any) -> Any:
        made = self.create_model_card  # a subclass such as TRL's writes cards of its own

        def create_and_complete(*args: Any, **kwargs: Any) -> None:
            made(*args, **kwargs)
            _complete_of(self)

        self.create_model_card = create_and_complete
        try:
            return push(self, *args, **kwargs)
        finally:
            del self.create_model_card

    cls.create_model_card, cls.push_to_hub = create_model_card, push_to_hub


def _complete_of(trainer: Any) -> None:
    model = trainer.accelerator.unwrap_model(trainer.model)
    if isinstance(model, SavedModel) and trainer.is_world_process_zero():
        folder = trainer.args.output_dir
        complete_card(model, folder, trainer.hub_model_id or str(folder))
