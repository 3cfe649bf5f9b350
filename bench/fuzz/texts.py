"""Texts: encodings, gzip, pipes, devices, one character a million times."""

import gzip
import os
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.fuzz.case import EITHER, MEASURED, REFUSED, Change, Command, Format, Mutation, under
from bench.fuzz.configs import MADE, REPORTS, evaluation_of
from bench.fuzz.edits import all_of, at, content, edited, instead, linked, of_any_file

FILE, ZIPPED = "text.txt", "text.txt.gz"


def _audit(text: str, *, needs_good: bool = True) -> Command:
    argv = ("audit", "model", "--section", "output", "--tokens", "64", "--no-argmaxable")
    return Command((*argv, "--text", text, *REPORTS), MADE, (), needs_good)


COMMANDS = {
    "audit": _audit(FILE),
    "evaluate": evaluation_of("model"),
    "gz": _audit(ZIPPED, needs_good=False),
    "gz-evaluate": evaluation_of("model", ZIPPED, needs_good=False),
    "stdin": _audit("/dev/stdin", needs_good=False),
    "stdin-evaluate": evaluation_of("model", "/dev/stdin", needs_good=False),
    "fd": evaluation_of("model", "/dev/fd/0", needs_good=False),
}
both, evaluate = under("audit", "evaluate"), under("evaluate")
gz, unzipped = under("gz", "gz-evaluate"), under("gz")
STDIN = ("stdin", "stdin-evaluate")
text, holds = partial(edited, FILE), partial(content, FILE)


def repeated(data: bytes, times: int) -> Change:
    """A long text, made when it is needed."""
    return instead(FILE, lambda path: path.write_bytes(data * times))


def beside(name: str, how: Callable[[bytes], bytes]) -> Change:
    """A file beside the text, made of it."""
    return at(FILE, lambda path: (path.parent / name).write_bytes(how(path.read_bytes())))


def zipped(how: Callable[[bytes], bytes] = bytes) -> Change:
    """text.txt.gz, made from what gzip makes of the text."""
    return beside(ZIPPED, lambda data: how(gzip.compress(data, mtime=0)))


piped = partial(beside, "stdin")
"""The text, on standard input."""


def _bomb(path: Path) -> None:
    """Four gigabytes of spaces in four megabytes, as members one after another."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    member = b"".join(packer.compress(b" " * 2**20) for _ in range(64)) + packer.flush()
    path.write_bytes(member * 64)


def named(name: bytes) -> Change:
    """A link of a hostile name, in a folder that `--text` names."""

    def change(path: Path) -> None:
        real = path.rename(path.parent / "real")
        path.mkdir()
        os.link(real, os.path.join(os.fsencode(path), name))

    return at(FILE, change)


def folder(**files: bytes) -> Change:
    def change(path: Path) -> None:
        path.mkdir()
        for name, data in files.items():
            (path / f"{name}.txt").write_bytes(data)

    return instead(FILE, change)


LINES = b"a line of some words that is long enough for a window\n" * 40

TABLE = (
    *both("spaces", holds(b" \n\t " * 500)),
    *both("bom-alone", holds(b"\xef\xbb\xbf")),
    *both("bom-and-spaces", holds(b"\xef\xbb\xbf \n")),
    *both("bom", text(lambda o: b"\xef\xbb\xbf" + o), MEASURED),
    *both("utf-16", text(lambda o: o.decode().encode("utf-16"))),
    *both("utf-16-le", text(lambda o: o.decode().encode("utf-16-le")), EITHER),
    *both("utf-32", text(lambda o: o.decode().encode("utf-32"))),
    *both("latin-1", text(lambda o: o + b"\xe9t\xe9")),
    *both("half-character", text(lambda o: o + "é".encode()[:1])),
    *both("surrogate", text(lambda o: o + b"\xed\xa0\x80")),
    *both("overlong", text(lambda o: o + b"\xc0\xaf")),
    *both("beyond-unicode", text(lambda o: o + b"\xf4\x90\x80\x80")),
    *both("nul", holds(bytes(2000)), EITHER),
    *both("nul-among", text(lambda o: o[:500] + bytes(8) + o[500:]), EITHER),
    *both("escapes", holds(b"\x1b[31m\x1b]0;x\x07 red \x08\x7f\n" * 200), EITHER),
    *both("bidi", holds("\u202etxet\u2066 \u200b\ufeff\u2028 text\n".encode() * 200), EITHER),
    *both("emoji", holds("👩‍👩‍👧‍👦🏳️‍🌈 ".encode() * 200), EITHER),
    *both("combining", holds(("e" + "\u0301" * 5000).encode()), EITHER),
    *both("unknown-only", holds("中文字".encode() * 500), EITHER),
    *both("carriage-returns", holds(LINES.replace(b"\n", b"\r")), EITHER),
    *both("windows", holds(LINES.replace(b"\n", b"\r\n")), MEASURED),
    *both("one-letter", holds(b"a")),
    *both("one-line", holds(LINES.replace(b"\n", b" ")), EITHER),
    *both("short-documents", holds(b"ab\f" * 5000), EITHER),
    *both("form-feeds", holds(b"\f" * 100_000)),
    *both("form-feeds-and-text", holds(b"\f" * 100_000 + LINES), MEASURED),
    *both("marks", holds(b"<|endoftext|>" * 10_000)),
    *both("titles", holds(b" = x = \n" * 10_000), EITHER),
    *both("many-titles", holds((b" = x = \n" + LINES) * 50), EITHER),
    *both("long-title", holds(b" = " + b"=x " * 100_000 + b"\n" + LINES), EITHER),
    *both("special-tokens", holds(b"<s></s><pad><unk>" * 500), EITHER),
    *both("megabyte-of-a", holds(b"a" * 1_000_000), EITHER),
    *both("17-megabytes-of-a", repeated(b"a", 17_000_000), EITHER, slow=True),
    *both("2-megabytes-of-lines", repeated(LINES, 1000), MEASURED, slow=True),
    *both("sparse-terabyte", at(FILE, lambda path: os.truncate(path, 2**40))),
    *both("png", holds(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20)),
    *both("gzip-without-its-name", text(lambda o: gzip.compress(o)), MEASURED),
    *both("folder-of-nothing", folder()),
    *both("folder-without-valid", folder(train=LINES)),
    *evaluate("folder-of-splits", folder(train=LINES, valid=LINES, test=LINES), MEASURED),
    *evaluate("folder-with-two-trains", folder(train=LINES, train2=LINES, valid=LINES)),
    *evaluate("folder-empty-test", folder(train=LINES, valid=LINES, test=b"")),
    *evaluate("folder-bad-test", folder(train=LINES, valid=LINES, test=b"\xff" * 99)),
    *evaluate("folder-escape", named(b"\x1b[31m\ntrain.txt")),
    *evaluate("folder-not-utf-8", named(b"\xff\xfetrain.txt")),
    *of_any_file(FILE, "audit", junk=EITHER),
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
    *gz("bomb", instead(ZIPPED, _bomb), slow=True),
    *unzipped("fifo", instead(ZIPPED, os.mkfifo)),
    *unzipped("link-to-zero", linked(ZIPPED, "/dev/zero")),
    *unzipped("link-to-random", linked(ZIPPED, "/dev/urandom")),
    Mutation("good", piped(bytes), MEASURED, (*STDIN, "fd")),
    Mutation("megabyte", piped(lambda t: LINES * 500), MEASURED, (*STDIN, "fd")),
    Mutation("bom", piped(lambda t: b"\xef\xbb\xbf" + t), MEASURED, ("stdin-evaluate",)),
    Mutation("empty", piped(lambda t: b""), REFUSED, STDIN),
    Mutation("binary", piped(lambda t: b"\xff" * 999), REFUSED, STDIN),
    Mutation("null", all_of(), REFUSED, STDIN),
)

TEXTS = (Format("text", "llama", COMMANDS, (FILE,), TABLE),)
