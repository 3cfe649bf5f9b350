"""The config that transformers reads from the folder of a saved model."""

from typing import Any

from transformers import PreTrainedConfig

from wideneck.attached.saved import (
    ARCHITECTURE,
    MODEL_TYPE,
    Saved,
    check_saved,
    layout,
    original_config,
    peek_saved,
    push_saved,
)
from wideneck.errors import WideneckError

IMPLEMENTATIONS = {
    f"{before}{part}_implementation{after}"
    for part in ("attn", "experts")
    for before in ("", "_")
    for after in ("", "_internal")
}
"""Keys by which a config chooses kernels, which may be code on the hub: the user alone may."""


class WideneckConfig(PreTrainedConfig):
    """Leads to the model's class and to its own config, which is the original's.

    What it is asked beyond that, such as `vocab_size` or `num_hidden_layers`, is the original's
    answer; what it writes is what `save_pretrained` of the model writes.
    """

    model_type = MODEL_TYPE
    auto_map = {}  # noqa: RUF012  TRL looks here, finds nothing and takes the Auto class
    backbone: Any = None
    """The original's config, which carries head and normalizer to the model."""

    @classmethod
    def of(cls, backbone: Any, saved: Saved) -> "WideneckConfig":
        """The config of a model with the original's config and these parts."""
        config = cls(backbone=push_saved(backbone, saved))
        common = vars(PreTrainedConfig()).keys() & vars(backbone).keys()
        for name in common - {"model_type", "transformers_version"}:
            setattr(config, name, getattr(backbone, name))
        config.architectures = [ARCHITECTURE]
        return config

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Options such as `attn_implementation` are the original's."""
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING

        wants_rest = kwargs.pop("return_unused_kwargs", False)
        saved = check_saved(config_dict)
        raw = _without_kernels(original_config(config_dict))
        if raw.get("model_type") not in CONFIG_MAPPING:
            raise WideneckError(
                f"transformers knows no model type {raw.get('model_type')!r}, which config.json "
                "names for the backbone: install the version that it names."
            )
        original = CONFIG_MAPPING[raw["model_type"]]
        backbone, rest = original.from_dict(raw, return_unused_kwargs=True, **kwargs)
        config = cls.of(backbone, saved)
        return (config, rest) if wants_rest else config

    def to_dict(self) -> dict[str, Any]:
        """What config.json holds."""
        if self.backbone is None:  # transformers makes an empty config of every class
            return super().to_dict()
        saved = peek_saved(self.backbone)
        assert saved is not None
        return layout(self.backbone, saved)

    def to_diff_dict(self) -> dict[str, Any]:
        """The same: there is no default that a reader could know."""
        return self.to_dict()

    def get_text_config(self, *args: Any, **kwargs: Any) -> Any:
        return self.backbone.get_text_config(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        backbone = vars(self).get("backbone")
        if backbone is None or name.startswith("__"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(backbone, name)


def register_config(configuration_auto: Any) -> None:
    """Follows the import of that module of transformers."""
    configuration_auto.AutoConfig.register(MODEL_TYPE, WideneckConfig)


def _without_kernels(raw: Any) -> Any:
    """The config without the stranger's choice of kernels, in its parts either."""
    if isinstance(raw, dict):
        return {k: _without_kernels(v) for k, v in raw.items() if k not in IMPLEMENTATIONS}
    return raw
