"""Every number of a set of reports, kept before a change of the code and compared after it.

    python -m bench golden keep FOLDER        some 10 minutes on 2 cores
    python -m bench golden compare FOLDER     the same again, and what differs

A field is equal to the last digit, or its largest relative difference is printed; what a machine
or a moment decides (times, versions, commands) is left out.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch
from safetensors.torch import save_file

PASSING = {"command", "time", "versions", "seconds", "tokens_per_second", "model", "text", "run"}
CLOSE = 1e-12
ATTENTION = [
    f"--attention={setting}" for setting in ("context=128", "num_windows=2", "ablation_context=32")
]
"""A short text: replacing each of 270 heads takes twenty minutes on the default one."""

RECIPE = """
seed = 1
[model]
name = "transformer"
architecture = "llama"
context = 32
[model.options]
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 2
num_attention_heads = 2
[head]
name = "moss"
num_components = 2
[data]
text = "{text}"
[optimizer]
name = "adamw"
learning_rate = 3e-3
[training]
epochs = 0.5
batch_size = 8
"""


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench golden")
    parser.add_argument("action", choices=("keep", "compare"))
    parser.add_argument("folder", type=Path)
    given = parser.parse_args(arguments)
    if given.action == "keep":
        given.folder.mkdir(parents=True)
        _write(given.folder)
        return
    with tempfile.TemporaryDirectory() as place:
        _write(Path(place))
        moved = {file.name for file in given.folder.iterdir()} ^ {
            file.name for file in Path(place).iterdir()
        }
        for file in sorted(given.folder.glob("*.json")):
            for line in differences(
                *(_read(folder / file.name) for folder in (given.folder, Path(place)))
            ):
                moved.add(file.name)
                print(f"{file.name}: {line}")
    sys.exit(1 if moved else 0)


def differences(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    """A line for every field, lists taken as one, that is not what it was."""
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after:
            yield f"{name} {'is new' if name in after else 'is gone'}"
        elif len(before[name]) != len(after[name]):
            yield f"{name} had {len(before[name])} values, has {len(after[name])}"
        else:
            pairs = list(zip(before[name], after[name], strict=True))
            words = [pair for pair in pairs if pair[0] != pair[1] and not _are_numbers(pair)]
            far = max((_apart(x, y) for x, y in pairs if _are_numbers((x, y))), default=0.0)
            if words:
                yield f"{name}: {words[0][0]!r} became {words[0][1]!r}"
            elif far:
                yield f"{name}: {far:.1e} apart{'' if far > CLOSE else ', rounding'}"


def _are_numbers(pair: tuple[Any, Any]) -> bool:
    return all(isinstance(x, int | float) and not isinstance(x, bool) for x in pair)


def _apart(x: float, y: float) -> float:
    return 0.0 if x == y or (math.isnan(x) and math.isnan(y)) else abs(x - y) / max(abs(x), abs(y))


def _read(file: Path) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    _flatten("", json.loads(file.read_text()), found)
    return found


def _flatten(name: str, value: Any, found: dict[str, list[Any]]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in PASSING:
                _flatten(f"{name}.{key}" if name else key, inner, found)
    elif isinstance(value, list):
        for inner in value:
            _flatten(f"{name}[]", inner, found)
    else:
        found.setdefault(name, []).append(value)


def _write(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as place:
        text, recipe, run = (Path(place) / name for name in ("text.txt", "recipe.toml", "run"))
        text.write_text("\n".join(topics[name] for name in sorted(topics))[:40_000])
        recipe.write_text(RECIPE.replace("{text}", str(text)))
        heads = [_head(Path(place) / f"step{number}.safetensors", number) for number in (1, 2, 3)]
        _wideneck("train", str(recipe), "--out", str(run))
        cases = {
            "series": ["audit", "--series", *heads],
            "run": ["audit", str(run), "--section", "head"],
            "evaluate": ["evaluate", str(run), "--with", "ranks", "--with", "neural-cache"],
            "head": ["audit", "--section", "head"],
            "default": ["audit", "--tokens", "2048", "--section", "output", "--section", "memory"],
            "attention": ["audit", "--section", "attention", *ATTENTION],
        }
        for name, arguments in cases.items():
            _wideneck(*arguments, "--json", str(folder / f"{name}.json"))


def _head(file: Path, number: int) -> str:
    """A head whose spectrum falls faster from one to the next."""
    generator = torch.Generator().manual_seed(number)
    weight = torch.randn(400, 24, generator=generator) * torch.linspace(1, 1 / number, 24)
    save_file({"lm_head.weight": weight}, str(file))
    return str(file)


def _wideneck(*arguments: str) -> None:
    command = [sys.executable, "-c", "from wideneck.cli import main; main()", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
