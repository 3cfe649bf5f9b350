"""What `save_pretrained` writes into config.json, and how it is read.

    {"model_type": "wideneck", "architectures": ["WideneckForCausalLM"], "head": {"name": ...},
     "logit_scale": 1.0, "start": {"rank": ..., "predicted": ..., ...}, "memory": {...},
     "attention": {"normalizer": {"name": ...},
                   "modules": [{"name": "model.layers.0.self_attn", "num_heads": 4}, ...]},
     "backbone": {the original's config, with its model_type as "backbone_type"},
     "vocab_size": V, "hidden_size": 1, "num_attention_heads": 1, ...}

A head, perhaps with what it lost at its start (`LowRankStart`), a memory, an attention or all of
them; a module has a "hidden_size", too, where its normalizer reads hidden states.  Nothing but the
classes of wideneck opens such a folder.  Its own model type and architecture make the Auto classes
and pipelines of a transformers without wideneck refuse it.  A class that is called by name, such as
LlamaForCausalLM, does not look at either: it would find its own model type in the backbone, or take
what it knows from the top, so the backbone has no model_type and the sizes at the top fit no
tensor.  The vocabulary's size is the true one, which PEFT reads there.

Folders of earlier versions, whose architecture is the original's and whose backbone is the
original's config as it is, are read, too.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wideneck import config as c
from wideneck.attached.low_rank_start import read_start
from wideneck.attention.config import normalizer_config
from wideneck.attention.config import to_dict as normalizer_to_dict
from wideneck.errors import WideneckError
from wideneck.files.writing import write_text
from wideneck.memory.config import memory_config
from wideneck.memory.config import to_dict as memory_to_dict
from wideneck.models.text_part import text_config

MODEL_TYPE = "wideneck"
ARCHITECTURE = "WideneckForCausalLM"
_TYPE = "backbone_type"
"""Where the backbone keeps its model type, by which its own classes would recognize it."""
_NO_SIZES = {"hidden_size": 1, "num_attention_heads": 1}
"""Sizes that no tensor has."""
_KEY = "_wideneck_saved"


@dataclass(frozen=True)
class Saved:
    """The parts of a saved model that are of wideneck."""

    head: dict[str, Any] | None
    logit_scale: float
    memory: dict[str, Any] | None
    attention: dict[str, Any] | None
    start: dict[str, Any] | None = None
    """Of a low_rank head."""


def check_saved(raw: dict[str, Any]) -> Saved:
    """The head and attention that a config.json names, refused where it is damaged."""
    needed: list[tuple[str, type]] = [("backbone", dict), ("architectures", list)]
    if "attention" not in raw or "head" in raw:
        needed.insert(0, ("head", dict))
    for key, kind in needed:
        if not isinstance(raw.get(key), kind) or not raw[key]:
            raise WideneckError(
                f"config.json of a saved wideneck model needs '{key}', which is missing: save "
                "the model again with save_pretrained."
            )
    names = original_config(raw).get("architectures")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise WideneckError(
            "config.json of a saved wideneck model needs the 'architectures' of its 'backbone', "
            "which are missing: save the model again with save_pretrained."
        )
    if "head" in raw:
        c.head_config(raw["head"])
    if "start" in raw:
        read_start(raw["start"])
    if "memory" in raw:
        _check_memory(raw)
    if "attention" in raw:
        _check_attention(raw["attention"])
    scale = raw.get("logit_scale", 1.0)
    number = isinstance(scale, int | float) and not isinstance(scale, bool)
    if not number or not 0 < abs(scale) <= sys.float_info.max:  # NaN is neither
        raise WideneckError(
            f"logit_scale in config.json is a number other than 0 and finite, got {scale!r}."
        )
    return Saved(
        head=raw.get("head"),
        logit_scale=float(scale),
        memory=raw.get("memory"),
        attention=raw.get("attention"),
        start=raw.get("start"),
    )


def original_config(raw: dict[str, Any]) -> dict[str, Any]:
    """The original's config.json, of a folder of this or an earlier version."""
    backbone = dict(raw["backbone"])
    if _TYPE in backbone:
        return {"model_type": backbone.pop(_TYPE), **backbone}
    return {**backbone, "architectures": raw["architectures"]}


def layout(original: Any, saved: Saved) -> dict[str, Any]:
    """The content of config.json for a model with the original's config and these parts."""
    backbone = json.loads(original.to_json_string())
    backbone.pop(_KEY, None)
    backbone = {_TYPE: backbone.pop("model_type"), **backbone}
    parts = {name: part for name, part in vars(saved).items() if part is not None}
    if saved.head is None:
        del parts["logit_scale"]
    text = text_config(original)
    sizes = {**_NO_SIZES, "vocab_size": getattr(text, "vocab_size", None)}
    return {
        "model_type": MODEL_TYPE,
        "architectures": [ARCHITECTURE],
        **parts,
        "backbone": backbone,
        **sizes,
        **({} if text is original else {"text_config": sizes}),
        "dtype": backbone.get("dtype"),
        "transformers_version": backbone.get("transformers_version"),
    }


def _check_memory(raw: dict[str, Any]) -> None:
    config = memory_config(raw["memory"])
    if "head" not in raw or config.temperature is None or config.bias is None:
        raise WideneckError(
            "'memory' in config.json of a saved wideneck model needs a temperature and a bias, and "
            "a 'head' beside it: save the model again with save_pretrained."
        )


def _check_attention(raw: Any) -> None:
    """Refuse what is no attention of a saved model, before a model is made of it."""
    if not isinstance(raw, dict) or not isinstance(raw.get("normalizer"), dict):
        raise WideneckError(
            "'attention' in config.json of a saved wideneck model names no 'normalizer': save the "
            "model again with save_pretrained."
        )
    reads = normalizer_config(raw["normalizer"]).reads_hidden
    modules = raw.get("modules")
    if not isinstance(modules, list) or not modules:
        raise WideneckError(
            "'attention' in config.json of a saved wideneck model needs 'modules', a list of its "
            "layers: save the model again with save_pretrained."
        )
    sizes = ("num_heads", "hidden_size") if reads else ("num_heads",)
    for module in modules:
        good = isinstance(module, dict) and isinstance(module.get("name"), str)
        for size in sizes:
            value = module.get(size) if good else None
            good = good and type(value) is int and value > 0
        if not good:
            raise WideneckError(
                f"A module of 'attention' in config.json needs a name and whole numbers for "
                f"{' and '.join(sizes)}, got {module!r}."
            )


def push_saved(config: Any, saved: Saved) -> Any:
    """Let a config carry the parts to the model that from_pretrained makes of it."""
    vars(config)[_KEY] = asdict(saved)  # what JSON can hold, as a config is printed and logged
    return config


def pop_saved(config: Any) -> Saved:
    """Take the parts from the config; the model's own config is the original's again."""
    saved = peek_saved(config)
    if saved is None:
        raise WideneckError(
            "A model with a head or normalizer is made by wideneck.attach or wideneck.load, or by "
            "wideneck.attention.use, not by its class."
        )
    del vars(config)[_KEY]
    return saved


def peek_saved(config: Any) -> Saved | None:
    """The parts that a config carries."""
    return Saved(**vars(config)[_KEY]) if _KEY in vars(config) else None


@contextmanager
def writing_config(model: Any) -> Iterator[None]:
    """Inside, `model.config.save_pretrained` writes the config of the model and its parts.

    In place of rewriting the file afterwards, when a crash, or an upload at the end of
    `save_pretrained`, would leave a folder that loads as a softmax.
    """
    config = model.config

    def save_pretrained(folder: Any, **_options: Any) -> None:
        del vars(config)["save_pretrained"]
        content = json.dumps(layout(config, parts_of(model)), indent=2) + "\n"
        write_text(Path(folder) / "config.json", content)

    vars(config)["save_pretrained"] = save_pretrained
    try:
        yield
    finally:
        vars(config).pop("save_pretrained", None)


def parts_of(model: Any) -> Saved:
    """The parts of a model that are of wideneck; all None for another model."""
    # Here, as transformers reads configs, with this file, before anything needs torch.
    from wideneck.attached.normalizer_places import placed
    from wideneck.attached.swap import attached_head, placed_memory

    head, memory, attention = attached_head(model), placed_memory(model), placed(model)
    return Saved(
        head=None if head is None else c.to_dict(head.config),
        logit_scale=1.0 if head is None else head.logit_scale,
        memory=None if memory is None else memory_to_dict(memory.config),
        attention=None if attention is None else _attention_to_dict(attention),
        start=None if head is None or head.start is None else asdict(head.start),
    )


def _attention_to_dict(placed: Any) -> dict[str, Any]:
    modules = [
        {name: value for name, value in asdict(place).items() if value is not None}
        for place in placed.places
    ]
    return {"normalizer": normalizer_to_dict(placed.config), "modules": modules}
