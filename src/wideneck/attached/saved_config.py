"""The config that transformers reads from the folder of a saved model."""

from typing import Any

from transformers import PreTrainedConfig

from wideneck.attached.saved import MODEL_TYPE, check_saved, push_saved
from wideneck.errors import WideneckError


class WideneckConfig(PreTrainedConfig):
    """Leads to the model's class and to its own config, which is the original's."""

    model_type = MODEL_TYPE
    backbone: Any = None
    """The original's config, which carries head and normalizer to the model."""

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Options such as `attn_implementation` are the original's."""
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING

        wants_rest = kwargs.pop("return_unused_kwargs", False)
        saved = check_saved(config_dict)
        raw = dict(config_dict["backbone"])
        if raw.get("model_type") not in CONFIG_MAPPING:
            raise WideneckError(
                f"transformers knows no model type {raw.get('model_type')!r}, which config.json "
                "names for the backbone: install the version that it names."
            )
        original = CONFIG_MAPPING[raw["model_type"]]
        backbone, rest = original.from_dict(raw, return_unused_kwargs=True, **kwargs)
        config = cls(
            backbone=push_saved(backbone, saved), architectures=config_dict["architectures"]
        )
        return (config, rest) if wants_rest else config
