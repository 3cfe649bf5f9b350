"""What `save_pretrained` writes into config.json, and how it is read.

    {"model_type": "wideneck", "architectures": [the original's], "head": {"name": ...},
     "logit_scale": 1.0, "memory": {...}, "attention": {...},
     "backbone": {the original's config}, ...}

A head, perhaps with a memory, an attention (see `saved_attention`) or both.  Its own model type
makes a transformers without wideneck refuse the folder, instead of loading it with a softmax.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wideneck import config as c
from wideneck.attached.saved_attention import attention_to_dict, check_attention
from wideneck.errors import WideneckError
from wideneck.memory.config import memory_config
from wideneck.memory.config import to_dict as memory_to_dict

MODEL_TYPE = "wideneck"
_KEY = "_wideneck_saved"


@dataclass(frozen=True)
class Saved:
    """The parts of a saved model that are of wideneck."""

    head: dict[str, Any] | None
    logit_scale: float
    memory: dict[str, Any] | None
    attention: dict[str, Any] | None


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
    if "head" in raw:
        c.head_config(raw["head"])
    if "memory" in raw:
        _check_memory(raw)
    if "attention" in raw:
        check_attention(raw["attention"])
    scale = raw.get("logit_scale", 1.0)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not scale:
        raise WideneckError(f"logit_scale in config.json is a number other than 0, got {scale!r}.")
    return Saved(raw.get("head"), float(scale), raw.get("memory"), raw.get("attention"))


def _check_memory(raw: dict[str, Any]) -> None:
    config = memory_config(raw["memory"])
    if "head" not in raw or config.temperature is None or config.bias is None:
        raise WideneckError(
            "'memory' in config.json of a saved wideneck model needs a temperature and a bias, and "
            "a 'head' beside it: save the model again with save_pretrained."
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
        _write(Path(folder) / "config.json", _to_dict(model))

    vars(config)["save_pretrained"] = save_pretrained
    try:
        yield
    finally:
        vars(config).pop("save_pretrained", None)


def _to_dict(model: Any) -> dict[str, Any]:
    # Here, as transformers reads configs, with this file, before anything needs torch.
    from wideneck.attached.memory_place import placed_memory
    from wideneck.attached.swap import attached_head

    backbone = json.loads(model.config.to_json_string())
    parts: dict[str, Any] = {}
    head = attached_head(model)
    if head is not None:
        parts |= {"head": c.to_dict(head.config), "logit_scale": head.logit_scale}
    memory = placed_memory(model)
    if memory is not None:
        parts["memory"] = memory_to_dict(memory.config)
    attention = attention_to_dict(model)
    if attention is not None:
        parts["attention"] = attention
    return {
        "model_type": MODEL_TYPE,
        "architectures": backbone["architectures"],
        **parts,
        "backbone": backbone,
        "dtype": backbone.get("dtype"),
        "transformers_version": backbone.get("transformers_version"),
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    """All or nothing."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    part.replace(path)
