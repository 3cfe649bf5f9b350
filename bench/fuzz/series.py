"""Folders of checkpoints, and where reports are written."""

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from random import Random

from bench.fuzz.case import EITHER, MEASURED, REFUSED, Change, Command, Format, Mutation
from bench.fuzz.configs import MADE, REPORTS
from bench.fuzz.tensors import HEAD, tensors

BAD = REFUSED
FOLDER = "checkpoints"
SERIES = Command(("audit", "--series", FOLDER, *REPORTS), MADE)
SECOND = "checkpoints/step2/model.safetensors"


def _do(how: Callable[[Path], object]) -> Change:
    return lambda folder, draw: how(folder / FOLDER)


def _all(how: Callable[[Path], object], least: int = 1) -> Change:
    return lambda folder, draw: ([how(folder / FOLDER / f"step{k}") for k in range(least, 4)])


def _fifo(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


TABLE = (
    Mutation("one-cut", lambda f, d: os.truncate(f / SECOND, 500), MEASURED),
    Mutation("one-empty", lambda f, d: os.truncate(f / SECOND, 0), MEASURED),
    Mutation(
        "one-nan", tensors(lambda t: t[HEAD].fill_(float("nan")) is None or None, SECOND), MEASURED
    ),
    Mutation("one-zeros", tensors(lambda t: t[HEAD].zero_() is None or None, SECOND), MEASURED),
    Mutation(
        "one-1e30", tensors(lambda t: t[HEAD][5].fill_(1e30) is None or None, SECOND), MEASURED
    ),
    Mutation(
        "one-wide",
        tensors(lambda t: {k: v.repeat(1, 2) if k == HEAD else v for k, v in t.items()}, SECOND),
        MEASURED,
    ),
    Mutation(
        "one-no-head",
        tensors(lambda t: {k: v for k, v in t.items() if k != HEAD}, SECOND),
        MEASURED,
    ),
    Mutation("one-fifo", lambda f, d: _fifo(f / SECOND), MEASURED),
    Mutation("one-config-bad", _do(lambda p: (p / "step2/config.json").write_text("{")), MEASURED),
    Mutation(
        "one-config-layers",
        _do(
            lambda p: (p / "step2/config.json").write_text(
                '{"model_type":"llama","num_hidden_layers":1000000000000}'
            )
        ),
        MEASURED,
    ),
    Mutation("one-without-weights", lambda f, d: (f / SECOND).unlink(), MEASURED),
    Mutation("all-cut", _all(lambda p: os.truncate(p / "model.safetensors", 500)), BAD),
    Mutation("two-cut", _all(lambda p: os.truncate(p / "model.safetensors", 500), 2), BAD),
    Mutation("one-left", _all(shutil.rmtree, 2), BAD),
    Mutation("none-left", _all(shutil.rmtree), BAD),
    Mutation("no-folder", lambda f, d: shutil.rmtree(f / FOLDER), BAD),
    Mutation("a-file", lambda f, d: (shutil.rmtree(f / FOLDER), (f / FOLDER).write_text("x")), BAD),
    Mutation(
        "stray-files",
        _do(lambda p: ((p / "notes.txt").write_text("x"), _fifo(p / "pipe"))),
        MEASURED,
    ),
    Mutation("fifo-checkpoint", _do(lambda p: _fifo(p / "step4.safetensors")), MEASURED),
    Mutation(
        "junk-checkpoint", _do(lambda p: (p / "step4.safetensors").write_bytes(b"junk")), MEASURED
    ),
    Mutation("junk-gguf", _do(lambda p: (p / "step5.gguf").write_bytes(b"GGUFjunk")), MEASURED),
    Mutation("junk-bin", _do(lambda p: (p / "step6.bin").write_bytes(b"\x80\x04N.")), MEASURED),
    Mutation("dangling", _do(lambda p: (p / "step4").symlink_to("nowhere")), MEASURED),
    Mutation("loop", _do(lambda p: (p / "step4").symlink_to("step4")), MEASURED),
    Mutation("link-to-itself", _do(lambda p: (p / "step4").symlink_to(".")), MEASURED),
    Mutation(
        "link-to-zero", _do(lambda p: (p / "step4.safetensors").symlink_to("/dev/zero")), MEASURED
    ),
    Mutation("empty-folder", _do(lambda p: (p / "step4").mkdir()), MEASURED),
    Mutation("step-huge", _do(lambda p: (p / "step3").rename(p / f"step{'9' * 200}")), EITHER),
    Mutation(
        "step-4500-digits-link", _do(lambda p: (p / "step3").rename(p / f"step{'٣' * 9}")), EITHER
    ),
    Mutation("name-escape", _do(lambda p: (p / "step3").rename(p / "step3\x1b[31m\n")), MEASURED),
    Mutation(
        "name-not-utf-8",
        _do(lambda p: os.rename(p / "step3", os.fsencode(p) + b"/step3\xff\xfe")),
        EITHER,
    ),
    Mutation("name-bidi", _do(lambda p: (p / "step3").rename(p / "step3\u202e<script>")), MEASURED),
    Mutation("same-twice", _do(lambda p: shutil.copytree(p / "step3", p / "step4")), MEASURED),
    Mutation(
        "no-steps",
        _do(lambda p: [(p / f"step{k}").rename(p / "abc"[k - 1]) for k in (1, 2, 3)]),
        MEASURED,
    ),
    Mutation(
        "1000-empty", _do(lambda p: [(p / f"step{k}").mkdir() for k in range(4, 1000)]), MEASURED
    ),
)

FULL, NULL = os.makedev(1, 7), os.makedev(1, 3)
"""Nodes of our own in the case's folder: those of the machine are never written to."""


def _node(device: int) -> Change:
    """A device; a FIFO without a reader where nodes cannot be made."""

    def change(folder: Path, draw: Random) -> None:
        try:
            os.mknod(folder / "node", stat.S_IFCHR | 0o666, device)
        except PermissionError:
            os.mkfifo(folder / "node")

    return change


def _in(name: str, where: str, *makes: str, through: tuple[str, ...] = ()) -> dict[str, Command]:
    """Both kinds of report, written there, perhaps through a link."""
    argv = ("audit", "model", "--section", "head", "--no-argmaxable")
    return {
        f"{option}-{name}": Command((*argv, f"--{option}", where), makes, through, needs_good=False)
        for option in ("json", "html")
    }


def _readonly(folder: Path, draw: Random) -> None:
    (folder / "node").write_text("before")
    (folder / "node").chmod(0o444)


PLACES: dict[str, Command] = {
    **_in("node", "node"),
    **_in("new", "made/new.out", "made/new.out"),
    **_in("link", "link", through=("real",)),
    **_in("stdout", "/dev/stdout"),
    **_in("fd", "/dev/fd/1"),
    **_in("closed", "/dev/fd/9"),
    **_in("proc", "/proc/self/fd/1"),
    **_in("long", "x" * 300),
    **_in("escape", "a\x1b[31m\nb", "a\x1b[31m\nb"),
    **_in("not-utf-8", "a\udcff\udcfeb"),
    **_in("empty", ""),
    **_in("here", "."),
    **_in("nowhere", "nowhere/x"),
    **_in("below-a-file", "text.txt/x"),
    **_in("folder", "model"),
    **_in("loop", "loop"),
    "same": Command(
        ("audit", "model", "--section", "head", "--json", "x", "--html", "./x"),
        (),
        ("x",),
        needs_good=False,
    ),
    "linked": Command(
        ("audit", "model", "--section", "head", "--json", "link", "--html", "real"),
        (),
        ("real",),
        needs_good=False,
    ),
    "evaluate": Command(
        (
            "evaluate",
            "model",
            "--text",
            "text.txt",
            "--context",
            "16",
            "--tokens",
            "64",
            "--json",
            "node",
        ),
        needs_good=False,
    ),
    "heads": Command(("heads", "--json", "node"), needs_good=False),
}


def to(name: str, change: Change, expects: str, *where: str) -> list[Mutation]:
    commands = tuple(f"{option}-{w}" for w in where for option in ("json", "html"))
    return [Mutation(name, change, expects, commands)]


def _nothing(folder: Path, draw: Random) -> None:
    """The files are good; the place is not."""


def _linked(to_: str) -> Change:
    return lambda folder, draw: (folder / "link").symlink_to(to_)


TARGETS = (
    *to("full", _node(FULL), BAD, "node"),
    *to("null", _node(NULL), MEASURED, "node"),
    Mutation("full", _node(FULL), BAD, ("evaluate", "heads")),
    Mutation("null", _node(NULL), MEASURED, ("evaluate", "heads")),
    *to("read-only", _readonly, BAD, "node"),
    *to("new", lambda f, d: (f / "made").mkdir(), MEASURED, "new"),
    *to(
        "followed",
        lambda f, d: ((f / "real").write_text("old"), _linked("real")(f, d)),
        MEASURED,
        "link",
    ),
    *to("link-to-full", lambda f, d: (_node(FULL)(f, d), _linked("node")(f, d)), BAD, "link"),
    *to("link-to-null", lambda f, d: (_node(NULL)(f, d), _linked("node")(f, d)), EITHER, "link"),
    *to("dangling", _linked("real"), EITHER, "link"),
    *to("dangling-far", _linked("nowhere/real"), BAD, "link"),
    *to("loop", lambda f, d: (f / "loop").symlink_to("loop"), BAD, "loop"),
    *to("stdout", _nothing, MEASURED, "stdout", "fd", "proc"),
    *to("closed", _nothing, BAD, "closed"),
    *to("long", _nothing, BAD, "long"),
    *to("escape", _nothing, MEASURED, "escape"),
    *to("not-utf-8", _nothing, BAD, "not-utf-8"),
    *to("empty", _nothing, BAD, "empty"),
    *to("folder", _nothing, BAD, "here", "folder", "nowhere", "below-a-file"),
    Mutation("same", _nothing, EITHER, ("same",)),
    Mutation("same-by-link", _linked("real"), EITHER, ("linked",)),
)

FOLDERS = (
    Format(
        "series",
        "series",
        {"series": SERIES},
        ("checkpoints/*/*.safetensors", "checkpoints/*/config.json"),
        TABLE,
    ),
    Format("target", "llama", PLACES, (), TARGETS),
)
