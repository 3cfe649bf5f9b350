"""Packages load their names on first use; the names are those that type checkers are told."""

import compileall
import os
import shutil
import subprocess
import sys
from pathlib import Path

import wideneck

SOURCE = Path(wideneck.__file__).parent
PACKAGES = ("attention", "data", "evaluation", "functional", "heads", "memory", "models")


def test_packages_without_source_files_have_their_names(tmp_path):
    """As a frozen application has them: compiled code alone."""
    copy = tmp_path / "wideneck"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    assert compileall.compile_dir(copy, quiet=2, legacy=True)
    for file in copy.rglob("*.py"):
        file.unlink()
    code = f"""
import importlib, wideneck
assert wideneck.__file__.endswith(".pyc")
print(*wideneck.__all__)
for name in {PACKAGES}:
    print(*sorted(x for x in dir(importlib.import_module("wideneck." + name)) if x[0] != "_"))
"""
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    printed = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert printed[0].split() == wideneck.__all__
    assert {"use", "names", "normalize"} <= set(printed[1].split())
    assert {"read_text", "token_bytes"} <= set(printed[2].split())
    assert {"LogProbRanks", "static_perplexity"} <= set(printed[3].split())
    assert {"LoadedModel", "read_head"} <= set(printed[7].split())
