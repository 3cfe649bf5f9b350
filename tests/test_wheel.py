"""What a stranger gets: the wheel, in an environment of its own, far from the repository."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from wideneck import __version__

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """An environment with the wheel and what it depends on, without the repository."""
    place = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=60)
    venv.create(place / "env")
    (wheel,) = place.glob("wideneck-*.whl")
    python = place / "env" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    install = [*pip, "--no-index", "--no-deps", "--disable-pip-version-check", str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=60)
    # A .pth adds the dependencies behind the wheel's own files, but not what their .pth files add:
    # the editable wideneck of the developers stays out.
    (site,) = place.glob("env/lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return place


def run(place: Path, *arguments: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [str(place / "env" / "bin" / arguments[0]), *arguments[1:]]
    done = subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_is_what_is_imported_and_says_its_version(place):
    home = run(place, "python", "-c", "import wideneck; print(wideneck.__file__)")
    assert Path(home.strip()).is_relative_to(place)
    assert run(place, "wideneck", "--version") == f"wideneck {__version__}\n"


def test_the_wheel_has_the_templates_of_the_report(place):
    save_file({"lm_head.weight": torch.randn(60, 8)}, str(place / "head.safetensors"))
    run(place, "wideneck", "audit", "head.safetensors", "--section", "head", "--html", "r.html")
    assert "<style>" in (place / "r.html").read_text()


def test_the_wheel_has_every_recipe_template_number_and_mark_of_types(place):
    (site,) = place.glob("env/lib/python*/site-packages/wideneck")
    source = ROOT / "src" / "wideneck"
    beside_code = {
        path.relative_to(source)
        for path in source.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert {path.suffix for path in beside_code} >= {".toml", ".j2", ".css"}
    assert Path("py.typed") in beside_code
    for path in beside_code:
        assert (site / path).read_bytes() == (source / path).read_bytes()


def test_a_users_script_sees_the_types(place):
    script = place / "user.py"
    script.write_text('import wideneck as wn\n\nreport: int = wn.audit("gpt2")\n')
    (place / "pyrefly.toml").write_text("")  # without one it checks little
    checked = subprocess.run(
        [
            sys.executable,
            "-m",
            "pyrefly",
            "check",
            str(script),
            "--python-interpreter-path",
            str(place / "env" / "bin" / "python"),
        ],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "`Report` is not assignable to `int`" in checked.stdout
