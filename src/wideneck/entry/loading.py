"""`load`: what `save_pretrained` of a model with a head or normalizer, or a run, has written."""

import os
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM

from wideneck.attached.saved import MODEL_TYPE
from wideneck.errors import WideneckError
from wideneck.files.boundary import failing, reason
from wideneck.models.building import building, size_of_files
from wideneck.models.config_file import read_config
from wideneck.models.folder import LocalFolder
from wideneck.models.quiet import quiet_transformers
from wideneck.models.source import resolve
from wideneck.models.whole_files import check_files
from wideneck.training.folder import is_run

WHERE = {"token", "revision", "subfolder", "cache_dir", "force_download", "local_files_only"}
"""Options that say where the files are."""


def load(path: str | os.PathLike, **options: Any) -> Any:
    """A model with its head and normalizer, as `save_pretrained` has written it.

    `transformers.AutoModelForCausalLM.from_pretrained` does the same after `import wideneck.auto`.
    A run of `wideneck train` is loaded with its best weights: a transformer with its head, or a
    head trained on cached states in the model whose states they were; see
    `wideneck.training.as_transformers`.

    Args:
        path: a folder, or a Hugging Face id.
        options: of `from_pretrained`, such as `dtype=torch.bfloat16` or `device_map="auto"`.

    Raises:
        WideneckError: no folder of that kind, an unknown head or normalizer, missing or
            unreadable weights, options for a run.
    """
    name = os.fspath(path)
    if is_run(name):
        if options:
            raise WideneckError(
                f"{name} is a run of wideneck train, which is loaded in float32 on the CPU, got "
                f"{', '.join(options)}; move the model, or save_pretrained it and load that."
            )
        from wideneck.training.as_transformers import as_transformers

        return as_transformers(name)
    folder = _folder(name, options.get("subfolder"))
    if folder is not None:
        read_config(folder)  # refuses sizes that no model has
        check_files(resolve(str(folder)))
    size = None if folder is None else size_of_files(folder)
    # A stranger's config and weights go through many readers here; whatever any of them raises
    # means the same to the user.
    with (
        failing(
            lambda error: (
                f"{name} cannot be loaded ({reason(error)}): expected what save_pretrained of a "
                "model with a wideneck head or normalizer has written."
            )
        ),
        quiet_transformers(),
        building(name, size),
    ):
        return _loaded(name, options)


def _folder(name: str, below: Any) -> LocalFolder | None:
    """The folder on this machine that holds the model, if it is one."""
    path = Path(name) / (below if isinstance(below, str) else "")
    return LocalFolder(path) if path.is_dir() else None


def _loaded(name: str, options: dict[str, Any]) -> Any:
    where = {key: options[key] for key in WHERE & options.keys()}
    config = AutoConfig.from_pretrained(name, **where)
    if config.model_type != MODEL_TYPE:
        raise WideneckError(
            f"{name} holds a {config.model_type} model without a head or normalizer of "
            "wideneck: load it with transformers, then use wideneck.attach or "
            "wideneck.attention.use."
        )
    return AutoModelForCausalLM.from_pretrained(name, **options)
