"""Texts: encodings, gzip, pipes, devices, one character a million times."""

import gzip
import os
import zlib
from pathlib import Path
from random import Random

from bench.fuzz.case import EITHER, MEASURED, REFUSED, Change, Command, Format, Mutation
from bench.fuzz.configs import MADE, REPORTS
from bench.fuzz.edits import content, edited, of_any_file

FILE = "text.txt"
BAD = REFUSED


def _audit(text: str, good: bool = True) -> Command:
    argv = ("audit", "model", "--section", "output", "--tokens", "64", "--no-argmaxable")
    return Command((*argv, "--text", text, *REPORTS), MADE, needs_good=good)


def _evaluate(text: str, good: bool = True) -> Command:
    argv = ("evaluate", "model", "--context", "16", "--tokens", "128", "--text", text)
    return Command((*argv, "--json", "out.json"), ("out.json",), needs_good=good)


COMMANDS = {
    "audit": _audit(FILE),
    "evaluate": _evaluate(FILE),
    "gz": _audit("text.txt.gz", good=False),
    "gz-evaluate": _evaluate("text.txt.gz", good=False),
    "stdin": _audit("/dev/stdin", good=False),
    "stdin-evaluate": _evaluate("/dev/stdin", good=False),
    "fd": _evaluate("/dev/fd/0", good=False),
}


def both(name: str, change: Change, expects: str = BAD, *, slow: bool = False) -> list[Mutation]:
    return [Mutation(name, change, expects, (command,), slow) for command in ("audit", "evaluate")]


def recoded(encoding: str) -> Change:
    return edited(FILE, lambda old, draw: old.decode().encode(encoding))


def repeated(data: bytes, times: int) -> Change:
    """A long text, made when it is needed."""
    return lambda folder, draw: content(FILE, data * times)(folder, draw)


def zipped(how=lambda data: data) -> Change:
    """text.txt.gz beside it."""

    def change(folder: Path, draw: Random) -> None:
        data = gzip.compress((folder / FILE).read_bytes(), mtime=0)
        (folder / "text.txt.gz").write_bytes(how(data))

    return change


def piped(how=lambda data: data) -> Change:
    """The text, on standard input."""

    def change(folder: Path, draw: Random) -> None:
        (folder / "stdin").write_bytes(how((folder / FILE).read_bytes()))

    return change


def _bomb(folder: Path, draw: Random) -> None:
    """Four gigabytes of spaces in four megabytes, as members one after another."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    member = b"".join(packer.compress(b" " * 2**20) for _ in range(64)) + packer.flush()
    with (folder / "text.txt.gz").open("wb") as file:
        for _ in range(64):
            file.write(member)


def gz(name: str, change: Change, expects: str = BAD, *, slow: bool = False) -> list[Mutation]:
    return [Mutation(name, change, expects, (c,), slow) for c in ("gz", "gz-evaluate")]


def named(name: bytes) -> Change:
    """A link of a hostile name, in a folder that `--text` names."""

    def change(folder: Path, draw: Random) -> None:
        (folder / FILE).rename(folder / "real")
        os.mkdir(folder / FILE)
        os.link(folder / "real", os.path.join(os.fsencode(folder / FILE), name))

    return change


def _folder(**files: bytes) -> Change:
    def change(folder: Path, draw: Random) -> None:
        (folder / FILE).unlink()
        (folder / FILE).mkdir()
        for name, data in files.items():
            (folder / FILE / f"{name}.txt").write_bytes(data)

    return change


LINES = b"a line of some words that is long enough for a window\n" * 40

TABLE = (
    *both("spaces", content(FILE, b" \n\t " * 500)),
    *both("bom-alone", content(FILE, b"\xef\xbb\xbf")),
    *both("bom-and-spaces", content(FILE, b"\xef\xbb\xbf \n")),
    *both("bom", edited(FILE, lambda o, d: b"\xef\xbb\xbf" + o), MEASURED),
    *both("utf-16", recoded("utf-16")),
    *both("utf-16-le", recoded("utf-16-le"), EITHER),
    *both("utf-32", recoded("utf-32")),
    *both("latin-1", edited(FILE, lambda o, d: o + b"\xe9t\xe9")),
    *both("half-character", edited(FILE, lambda o, d: o + "é".encode()[:1])),
    *both("surrogate", edited(FILE, lambda o, d: o + b"\xed\xa0\x80")),
    *both("overlong", edited(FILE, lambda o, d: o + b"\xc0\xaf")),
    *both("beyond-unicode", edited(FILE, lambda o, d: o + b"\xf4\x90\x80\x80")),
    *both("nul", content(FILE, bytes(2000)), EITHER),
    *both("nul-among", edited(FILE, lambda o, d: o[:500] + bytes(8) + o[500:]), EITHER),
    *both("escapes", content(FILE, b"\x1b[31m\x1b]0;x\x07 red \x08\x7f\n" * 200), EITHER),
    *both(
        "bidi", content(FILE, "\u202etxet\u2066 \u200b\ufeff\u2028 text\n".encode() * 200), EITHER
    ),
    *both("emoji", content(FILE, "👩‍👩‍👧‍👦🏳️‍🌈 ".encode() * 200), EITHER),
    *both("combining", content(FILE, ("e" + "\u0301" * 5000).encode()), EITHER),
    *both("unknown-only", content(FILE, "中文字".encode() * 500), EITHER),
    *both("carriage-returns", content(FILE, LINES.replace(b"\n", b"\r")), EITHER),
    *both("windows", content(FILE, LINES.replace(b"\n", b"\r\n")), MEASURED),
    *both("one-letter", content(FILE, b"a")),
    *both("one-line", content(FILE, LINES.replace(b"\n", b" ")), EITHER),
    *both("short-documents", content(FILE, b"ab\f" * 5000), EITHER),
    *both("form-feeds", content(FILE, b"\f" * 100_000)),
    *both("form-feeds-and-text", content(FILE, b"\f" * 100_000 + LINES), MEASURED),
    *both("marks", content(FILE, b"<|endoftext|>" * 10_000)),
    *both("titles", content(FILE, b" = x = \n" * 10_000), EITHER),
    *both("many-titles", content(FILE, (b" = x = \n" + LINES) * 50), EITHER),
    *both("long-title", content(FILE, b" = " + b"=x " * 100_000 + b"\n" + LINES), EITHER),
    *both("special-tokens", content(FILE, b"<s></s><pad><unk>" * 500), EITHER),
    *both("megabyte-of-a", content(FILE, b"a" * 1_000_000), EITHER),
    *both("17-megabytes-of-a", repeated(b"a", 17_000_000), EITHER, slow=True),
    *both("2-megabytes-of-lines", repeated(LINES, 1000), MEASURED, slow=True),
    *both("sparse-terabyte", lambda f, d: os.truncate(f / FILE, 2**40)),
    *both("png", content(FILE, b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20)),
    *both("gzip-without-its-name", edited(FILE, lambda o, d: gzip.compress(o)), MEASURED),
    *both("folder-of-nothing", _folder()),
    *both("folder-without-valid", _folder(train=LINES)),
    Mutation(
        "folder-of-splits", _folder(train=LINES, valid=LINES, test=LINES), MEASURED, ("evaluate",)
    ),
    Mutation(
        "folder-with-two-trains",
        _folder(train=LINES, train2=LINES, valid=LINES),
        BAD,
        ("evaluate",),
    ),
    Mutation("folder-empty-test", _folder(train=LINES, valid=LINES, test=b""), BAD, ("evaluate",)),
    Mutation(
        "folder-bad-test", _folder(train=LINES, valid=LINES, test=b"\xff" * 99), BAD, ("evaluate",)
    ),
    Mutation("folder-escape", named(b"\x1b[31m\ntrain.txt"), BAD, ("evaluate",)),
    Mutation("folder-not-utf-8", named(b"\xff\xfetrain.txt"), BAD, ("evaluate",)),
    *of_any_file(FILE, junk=EITHER),
    *of_any_file(FILE, "evaluate", junk=EITHER),
    *gz("good", zipped(), MEASURED),
    *gz("two-members", zipped(lambda z: z + z), MEASURED),
    *gz("cut", zipped(lambda z: z[: len(z) // 2])),
    *gz("cut-by-one", zipped(lambda z: z[:-1])),
    *gz("only-header", zipped(lambda z: z[:10])),
    *gz("flipped", zipped(lambda z: z[:200] + bytes([z[200] ^ 255]) + z[201:])),
    *gz("wrong-sum", zipped(lambda z: z[:-8] + bytes(4) + z[-4:])),
    *gz("wrong-size", zipped(lambda z: z[:-4] + b"\xff\xff\xff\x7f")),
    *gz("more", zipped(lambda z: z + b"more"), EITHER),
    *gz("zeros-after", zipped(lambda z: z + bytes(512)), EITHER),
    *gz("empty", zipped(lambda z: b"")),
    *gz("not-gzip", zipped(lambda z: b"just text")),
    *gz("of-nothing", zipped(lambda z: gzip.compress(b""))),
    *gz("of-utf-16", zipped(lambda z: gzip.compress("text".encode("utf-16") * 500))),
    *gz("bomb", _bomb, slow=True),
    Mutation("fifo", lambda f, d: os.mkfifo(f / "text.txt.gz"), BAD, ("gz",)),
    Mutation(
        "link-to-zero", lambda f, d: (f / "text.txt.gz").symlink_to("/dev/zero"), BAD, ("gz",)
    ),
    Mutation(
        "link-to-random", lambda f, d: (f / "text.txt.gz").symlink_to("/dev/urandom"), BAD, ("gz",)
    ),
    Mutation("good", piped(), MEASURED, ("stdin", "stdin-evaluate", "fd")),
    Mutation("megabyte", piped(lambda t: LINES * 500), MEASURED, ("stdin", "stdin-evaluate", "fd")),
    Mutation("bom", piped(lambda t: b"\xef\xbb\xbf" + t), MEASURED, ("stdin-evaluate",)),
    Mutation("empty", piped(lambda t: b""), BAD, ("stdin", "stdin-evaluate")),
    Mutation("binary", piped(lambda t: b"\xff" * 999), BAD, ("stdin", "stdin-evaluate")),
    Mutation("null", lambda f, d: None, BAD, ("stdin", "stdin-evaluate")),
)

TEXTS = (Format("text", "llama", COMMANDS, (FILE,), TABLE),)
