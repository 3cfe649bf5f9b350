"""The model card of a model with parts of wideneck: that it needs wideneck, and how to load it.

`save_pretrained` writes one where none is.  On the way to the hub, where transformers or a trainer
has written a card of its own, the section is added to that one; nothing of a card is taken away.
"""

from pathlib import Path
from typing import Any

from wideneck.attached.normalizer_places import placed
from wideneck.attached.swap import attached_head, placed_memory
from wideneck.attention.config import name_of as normalizer_name
from wideneck.config import name_of
from wideneck.files.writing import write_text

CARD, TAG = "README.md", "wideneck"


def section(model: Any, where: str) -> str:
    """What a card says of the model's parts, and that `wideneck.load` is given `where`."""
    parts = []
    head, memory, attention = attached_head(model), placed_memory(model), placed(model)
    if head is not None:
        parts.append(f"a {name_of(head.config)} output layer")
    if memory is not None:
        parts.append("a memory")
    if attention is not None:
        parts.append(f"{normalizer_name(attention.config)} in its attention")
    start = "" if head is None or head.start is None else f"At its start: {head.start}.\n"
    listed = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    return f"""## Loading this model

This is a {type(model).__name__} with {listed} of wideneck.
{start}It needs wideneck (`pip install wideneck`); transformers alone does not load it:

```python
import wideneck as wn

model = wn.load({where!r})
```
"""


def write_card(model: Any, folder: Any, *, is_main_process: bool = True, **_options: Any) -> None:
    """A short card beside the files of a saved model; one that is there is left alone."""
    path = Path(folder) / CARD
    if not is_main_process or not path.parent.is_dir() or path.exists():
        return
    head = f"---\nlibrary_name: wideneck\ntags:\n- {TAG}\n---\n\n# {type(model).__name__}\n\n"
    write_text(path, head + section(model, "path/to/this/folder"))


def complete_card(model: Any, folder: Any, where: str) -> None:
    """The section and the tag, in the card that is about to be uploaded from a folder."""
    from huggingface_hub import ModelCard  # no need of it where nothing is uploaded

    path = Path(folder) / CARD
    if not path.exists():
        return
    card = ModelCard(path.read_text(encoding="utf-8"), ignore_metadata_errors=True)
    data: Any = card.data
    if data.library_name in (None, "transformers"):
        data.library_name = TAG  # what the hub shows code for
    data.tags = list(dict.fromkeys([*(data.tags or []), TAG]))
    if "wideneck" not in card.text:
        card.text = f"{card.text.rstrip()}\n\n{section(model, where)}"
    write_text(path, str(card))
