"""What `save_pretrained` writes into config.json, and how it is read.

    {"model_type": "wideneck", "architectures": [the original's], "head": {"name": ...},
     "logit_scale": 1.0, "backbone": {the original's config}, ...}

Its own model type makes a transformers without wideneck refuse the folder, instead of loading
it with a softmax.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wideneck import config as c
from wideneck.errors import WideneckError

MODEL_TYPE = "wideneck"
_KEY = "_wideneck_saved"


@dataclass(frozen=True)
class Saved:
    """The head of a saved model."""

    head: dict[str, Any]
    logit_scale: float


def check_saved(raw: dict[str, Any]) -> Saved:
    """The head that a config.json names, refused where it is damaged."""
    for key, kind in (("head", dict), ("backbone", dict), ("architectures", list)):
        if not isinstance(raw.get(key), kind) or not raw[key]:
            raise WideneckError(
                f"config.json of a saved wideneck model needs '{key}', which is missing: save "
                "the model again with save_pretrained."
            )
    c.head_config(raw["head"])
    scale = raw.get("logit_scale", 1.0)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not scale:
        raise WideneckError(f"logit_scale in config.json is a number other than 0, got {scale!r}.")
    return Saved(raw["head"], float(scale))


def push_saved(config: Any, saved: Saved) -> Any:
    """Let a config carry the head to the model that from_pretrained makes of it."""
    vars(config)[_KEY] = asdict(saved)  # what JSON can hold, as a config is printed and logged
    return config


def pop_saved(config: Any) -> Saved:
    """Take the head from the config; the model's own config is the original's again."""
    if _KEY not in vars(config):
        raise WideneckError(
            "A model with a head is made by wideneck.attach or wideneck.load, not by its class."
        )
    return Saved(**vars(config).pop(_KEY))


@contextmanager
def writing_config(model: Any) -> Iterator[None]:
    """Inside, `model.config.save_pretrained` writes the config of the model and its head.

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
    backbone = json.loads(model.config.to_json_string())
    head = model.get_output_embeddings()
    return {
        "model_type": MODEL_TYPE,
        "architectures": backbone["architectures"],
        "head": c.to_dict(head.config),
        "logit_scale": head.logit_scale,
        "backbone": backbone,
        "dtype": backbone.get("dtype"),
        "transformers_version": backbone.get("transformers_version"),
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    """All or nothing."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    part.replace(path)
