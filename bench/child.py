"""A function of the benchmarks in a process of its own: its memory and threads are its alone.

python -m bench.child MODULE.FUNCTION ARGUMENTS        both of bench; a list in JSON
"""

import json
import subprocess
import sys
from importlib import import_module
from typing import Any


def run_child(function: str, *arguments: Any) -> None:
    """Call "module.function" of bench there; what it prints goes where our output goes."""
    subprocess.run(_command(function, arguments), check=True)


def from_child(function: str, *arguments: Any) -> Any:
    """What the function returns, through JSON."""
    done = subprocess.run(_command(function, arguments), check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def _command(function: str, arguments: tuple[Any, ...]) -> list[str]:
    return [sys.executable, "-m", "bench.child", function, json.dumps(arguments)]


if __name__ == "__main__":
    module_name, _, function_name = sys.argv[1].rpartition(".")
    module = import_module(f"bench.{module_name}")
    import torch  # which a parent has no need of

    torch.set_num_threads(2)
    found = getattr(module, function_name)(*json.loads(sys.argv[2]))
    if found is not None:
        print(json.dumps(found))
