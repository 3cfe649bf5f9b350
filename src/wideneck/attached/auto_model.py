"""What AutoModelForCausalLM finds for the config of a model with a head or normalizer."""

import copy
from typing import Any

import transformers

from wideneck.attached.memory_model import MemoryModel
from wideneck.attached.model import AttachedModel, NormalizedModel
from wideneck.attached.saved import peek_saved
from wideneck.attached.saved_config import WideneckConfig
from wideneck.attached.swap import MEMORY, attached_head, serve_bias
from wideneck.errors import WideneckError
from wideneck.models.whole_files import check_unused


class WideneckForCausalLM:
    """Makes models of their original class with their parts; never itself a model."""

    @classmethod
    def from_pretrained(cls, name: Any, *args: Any, config: Any = None, **kwargs: Any) -> Any:
        """The saved model, refused where a tensor of it is missing."""
        if not isinstance(config, WideneckConfig):
            return transformers.AutoModelForCausalLM.from_pretrained(name, *args, **kwargs)
        wants_info = kwargs.pop("output_loading_info", False)
        model, info = _class_for(config).from_pretrained(
            name, *args, config=copy.deepcopy(config.backbone), output_loading_info=True, **kwargs
        )
        head = attached_head(model)
        if head is not None:
            serve_bias(model, head)
        if info["missing_keys"]:
            missing = sorted(info["missing_keys"])
            raise WideneckError(
                f"{name} lacks {len(missing)} of the model's tensors ({missing[0]}, ...), which "
                "would be random numbers: the folder is incomplete."
            )
        unexpected = info["unexpected_keys"]
        if any(key.startswith(f"{MEMORY}.") for key in unexpected):
            raise WideneckError(
                f"{name} holds the tensors of a memory, but its config.json says nothing of one: "
                "use the config.json that save_pretrained wrote beside them."
            )
        check_unused(model, unexpected, str(name))
        return (model, info) if wants_info else model

    @classmethod
    def _from_config(cls, config: WideneckConfig, **kwargs: Any) -> Any:
        """A model of random weights, for `AutoModelForCausalLM.from_config`."""
        return _class_for(config)._from_config(copy.deepcopy(config.backbone), **kwargs)


def register_model(modeling_auto: Any) -> None:
    """Follows the import of that module of transformers."""
    for kind in ("CausalLM", "Seq2SeqLM", "ImageTextToText", "MultimodalLM", "SpeechSeq2Seq"):
        auto = getattr(modeling_auto, f"AutoModelFor{kind}")
        auto.register(WideneckConfig, WideneckForCausalLM)


def _class_for(config: WideneckConfig) -> Any:
    """The class of the model, which takes its parts out of a copy of the config's backbone."""
    backbone = config.backbone
    saved = peek_saved(backbone)
    architecture = backbone.architectures[0]
    original = getattr(transformers, architecture, None)
    if original is None:
        raise WideneckError(
            f"transformers has no class {architecture!r}, which config.json names as the "
            "architecture: install the version of transformers that it names."
        )
    if saved is None or saved.head is None:
        return NormalizedModel.class_of(original)
    return (AttachedModel if saved.memory is None else MemoryModel).class_of(original)
