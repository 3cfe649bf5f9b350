"""The part of a model that reads and writes text, where the model also sees or hears.

Gemma 3, Llava and Qwen-VL are wrappers: a decoder of text, with a config of its own inside the
model's, beside towers with layers, tables and attention heads of their own.  The output layer is
the wrapper's, and so is the forward.  Everything else that is asked about "the model" means the
decoder, and is found here: by the config that describes it, and by the table that turns tokens into
vectors, which only it holds.
"""

import re
from typing import Any

PLACEHOLDER = re.compile(r"(image|video|audio|speech)_token_(id|index)")
"""What configs call the tokens that only keep room for what a tower gives."""


def text_config(config: Any) -> Any:
    """The part of a config that describes the decoder of text; the config itself where none does.

    Of a model with an encoder whose config is flat, a copy that describes its decoder.
    """
    return config.get_text_config(decoder=True)


def text_part(model: Any) -> Any:
    """The innermost model of transformers inside a model that holds its table of tokens.

    The model itself, where it names no such table or nothing smaller holds it.
    """
    from transformers import PreTrainedModel

    table = table_of_tokens(model)
    around = [
        part
        for part in model.modules()
        if isinstance(part, PreTrainedModel) and table in part.modules()
    ]
    return around[-1] if around else model


def towers(model: Any) -> list[str]:
    """The dotted names of the models of transformers inside a model that read something else."""
    from transformers import PreTrainedModel

    table = table_of_tokens(model)
    found: list[str] = []
    for name, part in model.named_modules():
        if table is None or not isinstance(part, PreTrainedModel) or table in part.modules():
            continue
        if not name.startswith(tuple(f"{tower}." for tower in found)):
            found.append(name)
    return found


def text_modules(model: Any) -> list[Any]:
    """The modules of the text part, without those of a tower that stands inside it."""
    others = {module for name in towers(model) for module in model.get_submodule(name).modules()}
    return [module for module in text_part(model).modules() if module not in others]


def only_text(model: Any) -> list[str]:
    """What a report says of a model with towers: whose numbers these are.  Nothing of others."""
    beside = towers(model)
    if not beside:
        return []
    text = text_part(model)
    name = next(name for name, part in model.named_modules() if part is text)
    one = len(beside) == 1
    return [
        f"Measured is the text part of this {type(model).__name__}, {name}, on text alone: "
        f"{' and '.join(beside)} {'takes' if one else 'take'} no part."
    ]


def table_of_tokens(model: Any) -> Any:
    """The layer that turns token ids into vectors; None where a model names none."""
    try:
        return model.get_input_embeddings()
    except NotImplementedError:  # how transformers says so
        return None


def placeholders(config: Any) -> list[int]:
    """The ids of tokens in whose places a model puts what its towers give: images, sound."""
    found = {id for name, id in vars(config).items() if PLACEHOLDER.fullmatch(name)}
    return sorted(id for id in found if type(id) is int)
