"""What config.json says of a model's normalizer, and how the layers get it back.

    "attention": {"normalizer": {"name": ...},
                  "modules": [{"name": "model.layers.0.self_attn", "num_heads": 4}, ...]}

With `hidden_size` for each module where the normalizer reads hidden states.

Layers are imported inside the functions: transformers reads configs before anything needs torch.
"""

from typing import Any

from wideneck.attention.config import normalizer_config, to_dict
from wideneck.errors import WideneckError


def attention_to_dict(model: Any) -> dict[str, Any] | None:
    """The normalizer of a model and its places; None for the model's own attention."""
    from wideneck.attached.normalizer_places import placed

    state = placed(model)
    if state is None:
        return None
    modules = []
    for place in state.places:
        module = {"name": place.name, "num_heads": place.num_heads}
        if place.hidden_size is not None:
            module["hidden_size"] = place.hidden_size
        modules.append(module)
    return {"normalizer": to_dict(state.config), "modules": modules}


def check_attention(raw: Any) -> None:
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


def place_saved(model: Any, raw: dict[str, Any]) -> None:
    """The normalizers of a saved model, whose numbers are loaded afterwards."""
    from wideneck.attached import normalizer_places as p

    places = tuple(
        p.Place(
            name=module["name"],
            num_heads=module["num_heads"],
            hidden_size=module.get("hidden_size"),
        )
        for module in raw["modules"]
    )
    before = p.implementations(model)
    p.switch(model)
    p.put(model, normalizer_config(raw["normalizer"]), places, before)
