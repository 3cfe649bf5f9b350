"""Folders of checkpoints, and where reports are written."""

import os
import shutil
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.fuzz.case import EITHER, MEASURED, REFUSED, Change, Command, Format, Mutation, under
from bench.fuzz.configs import MADE, REPORTS
from bench.fuzz.edits import all_of, at, content, instead
from bench.fuzz.tensors import HEAD, put, value, without_tensors

FOLDER = "checkpoints"
Names = tuple[str, ...]
SERIES = Command(("audit", "--series", FOLDER, *REPORTS), MADE)
SECOND, CONFIG = "checkpoints/step2/model.safetensors", "checkpoints/step2/config.json"
series, folder = under("series"), partial(at, FOLDER)
LAYERS = b'{"model_type":"llama","num_hidden_layers":1000000000000}'


def cut(size: int, *steps: int) -> Change:
    """Checkpoints that end too soon."""
    files = (f"{FOLDER}/step{step}/model.safetensors" for step in steps)
    return all_of(*(at(file, lambda path: os.truncate(path, size)) for file in files))


def gone(*steps: int) -> Change:
    return all_of(*(at(f"{FOLDER}/step{step}", shutil.rmtree) for step in steps))


def renamed(name: str | bytes) -> Change:
    """Another name for the last checkpoint."""
    return folder(lambda p: os.rename(p / "step3", os.path.join(os.fsencode(p), os.fsencode(name))))


def beside(name: str, how: Callable[[Path], object]) -> Change:
    """Something beside the checkpoints."""
    return at(f"{FOLDER}/{name}", how)


def holds(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def links(to: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(to)


TABLE = (
    *series("one-cut", cut(500, 2), MEASURED),
    *series("one-empty", cut(0, 2), MEASURED),
    *series("one-nan", value(HEAD, float("nan"), name=SECOND), MEASURED),
    *series("one-zeros", value(HEAD, 0.0, name=SECOND), MEASURED),
    *series("one-1e30", value(HEAD, 1e30, 5, name=SECOND), MEASURED),
    *series("one-wide", put(HEAD, lambda w: w.repeat(1, 2), name=SECOND), MEASURED),
    *series("one-no-head", without_tensors(HEAD, name=SECOND), MEASURED),
    *series("one-fifo", instead(SECOND, os.mkfifo), MEASURED),
    *series("one-config-bad", content(CONFIG, b"{"), MEASURED),
    *series("one-config-layers", content(CONFIG, LAYERS), MEASURED),
    *series("one-without-weights", at(SECOND, Path.unlink), MEASURED),
    *series("all-cut", cut(500, 1, 2, 3)),
    *series("two-cut", cut(500, 2, 3)),
    *series("one-left", gone(2, 3)),
    *series("none-left", gone(1, 2, 3)),
    *series("no-folder", folder(shutil.rmtree)),
    *series("a-file", folder(lambda path: (shutil.rmtree(path), path.write_text("x")))),
    *series(
        "stray-files", all_of(beside("notes.txt", holds(b"x")), beside("pipe", os.mkfifo)), MEASURED
    ),
    *series("fifo-checkpoint", beside("step4.safetensors", os.mkfifo), MEASURED),
    *series("junk-checkpoint", beside("step4.safetensors", holds(b"junk")), MEASURED),
    *series("junk-gguf", beside("step5.gguf", holds(b"GGUFjunk")), MEASURED),
    *series("junk-bin", beside("step6.bin", holds(b"\x80\x04N.")), MEASURED),
    *series("dangling", beside("step4", links("nowhere")), MEASURED),
    *series("loop", beside("step4", links("step4")), MEASURED),
    *series("link-to-itself", beside("step4", links(".")), MEASURED),
    *series("link-to-zero", beside("step4.safetensors", links("/dev/zero")), MEASURED),
    *series("empty-folder", beside("step4", Path.mkdir), MEASURED),
    *series("step-huge", renamed(f"step{'9' * 200}"), EITHER),
    *series("step-4500-digits-link", renamed(f"step{'٣' * 9}"), EITHER),
    *series("name-escape", renamed("step3\x1b[31m\n"), MEASURED),
    *series("name-not-utf-8", renamed(b"step3\xff\xfe"), EITHER),
    *series("name-bidi", renamed("step3\u202e<script>"), MEASURED),
    *series("same-twice", folder(lambda p: shutil.copytree(p / "step3", p / "step4")), MEASURED),
    *series(
        "no-steps",
        folder(lambda p: [(p / f"step{k}").rename(p / "abc"[k - 1]) for k in (1, 2, 3)]),
        MEASURED,
    ),
    *series(
        "1000-empty", all_of(*(beside(f"step{k}", Path.mkdir) for k in range(4, 1000))), MEASURED
    ),
)


def _to(reports: Names, makes: Names = (), works_in: Names = ()) -> Command:
    """The audit of the head, with these reports."""
    argv = ("audit", "model", "--section", "head", *reports)
    return Command(argv, makes, works_in, needs_good=False)


WHERE = {
    "node": "node",
    "new": "made/new.out",
    "link": "link",
    "stdout": "/dev/stdout",
    "fd": "/dev/fd/1",
    "closed": "/dev/fd/9",
    "proc": "/proc/self/fd/1",
    "long": "x" * 300,
    "escape": "a\x1b[31m\nb",
    "not-utf-8": "a\udcff\udcfeb",
    "empty": "",
    "here": ".",
    "nowhere": "nowhere/x",
    "below-a-file": "text.txt/x",
    "folder": "model",
    "loop": "loop",
}
"""Where a report is written, of either kind."""
EVALUATE = ("evaluate", "model", "--text", "text.txt", "--context", "16", "--tokens", "64")
PLACES = {
    f"{option}-{name}": _to(
        ("--no-argmaxable", f"--{option}", where),
        (where,) if name in ("new", "escape") else (),
        ("real",) if name == "link" else (),
    )
    for name, where in WHERE.items()
    for option in ("json", "html")
} | {
    "same": _to(("--json", "x", "--html", "./x"), works_in=("x",)),
    "linked": _to(("--json", "link", "--html", "real"), works_in=("real",)),
    "evaluate": Command((*EVALUATE, "--json", "node"), needs_good=False),
    "heads": Command(("heads", "--json", "node"), needs_good=False),
}


def to(name: str, change: Change, expects: str, *where: str) -> Mutation:
    commands = tuple(f"{option}-{w}" for w in where for option in ("json", "html"))
    return Mutation(name, change, expects, commands)


def _node(device: int) -> Change:
    """A device of our own, for those of the machine are never written to.

    It is a FIFO without a reader where nodes cannot be made.
    """

    def make(path: Path) -> None:
        try:
            os.mknod(path, stat.S_IFCHR | 0o666, device)
        except PermissionError:
            os.mkfifo(path)

    return at("node", make)


def _link(to: str) -> Change:
    return at("link", links(to))


FULL, NULL = _node(os.makedev(1, 7)), _node(os.makedev(1, 3))
GOOD = all_of()
"""The files are good; the place is not."""
TARGETS = (
    to("full", FULL, REFUSED, "node"),
    to("null", NULL, MEASURED, "node"),
    Mutation("full", FULL, REFUSED, ("evaluate", "heads")),
    Mutation("null", NULL, MEASURED, ("evaluate", "heads")),
    to(
        "read-only", at("node", lambda p: (p.write_text("before"), p.chmod(0o444))), REFUSED, "node"
    ),
    to("new", at("made", Path.mkdir), MEASURED, "new"),
    to("followed", all_of(at("real", holds(b"old")), _link("real")), MEASURED, "link"),
    to("link-to-full", all_of(FULL, _link("node")), REFUSED, "link"),
    to("link-to-null", all_of(NULL, _link("node")), EITHER, "link"),
    to("dangling", _link("real"), EITHER, "link"),
    to("dangling-far", _link("nowhere/real"), REFUSED, "link"),
    to("loop", at("loop", links("loop")), REFUSED, "loop"),
    to("stdout", GOOD, MEASURED, "stdout", "fd", "proc"),
    to("closed", GOOD, REFUSED, "closed"),
    to("long", GOOD, REFUSED, "long"),
    to("escape", GOOD, MEASURED, "escape"),
    to("not-utf-8", GOOD, REFUSED, "not-utf-8"),
    to("empty", GOOD, REFUSED, "empty"),
    to("folder", GOOD, REFUSED, "here", "folder", "nowhere", "below-a-file"),
    Mutation("same", GOOD, EITHER, ("same",)),
    Mutation("same-by-link", _link("real"), EITHER, ("linked",)),
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
