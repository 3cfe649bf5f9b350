"""What wideneck itself has written, once a stranger or a bad disk has had it: runs and states."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from bench.fuzz.case import EITHER, MEASURED, REFUSED, Change, Command, Format, Mutation
from bench.fuzz.edits import changed_json, content, edited, literal, of_any_file, of_any_json, rows
from bench.fuzz.seeds import REPRODUCE as REPRODUCE_AGAIN
from wideneck.files.sums import sum_of
from wideneck.training.tensor_file import SUMMED

BAD = REFUSED


def resumed(out: str, *places: str) -> Command:
    argv = ("train", "recipe.toml", "--out", out, "--json", "out.json")
    return Command(argv, ("out.json",), places)


def regions(name: str, *commands: str) -> list[Mutation]:
    """A bit in each part of a safetensors file, and its sizes."""

    def flip(where: Callable[[bytes, int, Random], int]) -> Change:
        def how(old: bytes, draw: Random) -> bytes:
            size = int.from_bytes(old[:8], "little")
            data = bytearray(old)
            data[where(old, 8 + size, draw)] ^= 1 << draw.randrange(8)
            return bytes(data)

        return edited(name, how)

    def anywhere(old: bytes, start: int, draw: Random) -> int:
        return draw.randrange(start, len(old))

    changes = {
        "flip-length": flip(lambda old, start, draw: draw.randrange(8)),
        "flip-header": flip(lambda old, start, draw: old.index(b"shape") + 8),
        "flip-about": flip(lambda old, start, draw: old.index(b"wideneck") + draw.randrange(8, 60)),
        "flip-first": flip(lambda old, start, draw: start),
        "flip-last": flip(lambda old, start, draw: len(old) - 1),
        **{f"flip-{k}": flip(anywhere) for k in range(4)},
        "cut": edited(name, lambda old, draw: old[: len(old) // 2]),
        "cut-by-one": edited(name, lambda old, draw: old[:-1]),
        "one-more": edited(name, lambda old, draw: old + b"\0"),
        "zeros": edited(name, lambda old, draw: old[:-512] + bytes(512)),
    }
    base = Path(name).name.split(".")[0]
    return [Mutation(f"{base}-{how}", change, BAD, commands) for how, change in changes.items()]


def about(name: str, how: Callable[[dict[str, Any]], Any], *, summed: bool) -> Change:
    """The JSON that a header carries in its metadata, through a function; with its right sum?"""

    def change(old: bytes, draw: Random) -> bytes:
        size = int.from_bytes(old[:8], "little")
        head = json.loads(old[8 : 8 + size])
        found, _, stored = head["__metadata__"][SUMMED].partition(" ")
        inside = json.loads(stored)
        new = json.dumps(inside | {"about": how(inside["about"])})
        head["__metadata__"][SUMMED] = f"{sum_of(new.encode()) if summed else found} {new}"
        new_head = json.dumps(head).encode()
        new_head += b" " * (-len(new_head) % 8)
        return len(new_head).to_bytes(8, "little") + new_head + old[8 + size :]

    return edited(name, change)


def abouts(name: str, *commands: str) -> list[Mutation]:
    """A header of other content, with the sum of the old one and, as a forger would, its own."""
    base = Path(name).name.split(".")[0]
    changes: dict[str, Callable[[dict[str, Any]], Any]] = {
        "empty": lambda a: {},
        "list": lambda a: [],
        "no-standing": lambda a: {k: v for k, v in a.items() if k != "standing"} | {"x": 7},
        "numbers": lambda a: {k: 7 for k in a},
        "texts": lambda a: {k: "x" for k in a},
        "nones": lambda a: dict.fromkeys(a),
        "negative": lambda a: {k: -v if isinstance(v, int) else v for k, v in a.items()},
        "nan": lambda a: {
            k: float("nan") if isinstance(v, int | float) else v for k, v in a.items()
        },
        "huge": lambda a: {k: 10**30 if isinstance(v, int | float) else v for k, v in a.items()},
    }
    return [
        Mutation(
            f"{base}-about-{k}{'-summed' if summed else ''}",
            about(name, how, summed=summed),
            EITHER if summed else BAD,
            commands,
        )
        for k, how in changes.items()
        for summed in (False, True)
    ]


CHECKPOINT, METRICS, RUN = "run/checkpoint.safetensors", "run/metrics.jsonl", "run"
RESUME = (
    *regions(CHECKPOINT),
    *abouts(CHECKPOINT),
    *of_any_file(CHECKPOINT, gone=EITHER),
    *of_any_file("run/recipe.json"),
    *of_any_json("run/recipe.json"),
    *of_any_file("run/vocabulary.txt", gone=EITHER),
    *of_any_file("run/model.safetensors", junk=EITHER, node=EITHER, gone=EITHER),
    Mutation("metrics-empty", content(METRICS, b""), BAD),
    Mutation("metrics-missing", lambda f, d: (f / METRICS).unlink(), BAD),
    Mutation("metrics-shorter", edited(METRICS, lambda o, d: o[: len(o) // 2]), BAD),
    Mutation("metrics-half-a-line-more", edited(METRICS, lambda o, d: o + b'{"step": 9'), MEASURED),
    Mutation(
        "metrics-lines-more", edited(METRICS, lambda o, d: o + b'{"step": 999}\n' * 3), MEASURED
    ),
    Mutation("metrics-folder", lambda f, d: ((f / METRICS).unlink(), (f / METRICS).mkdir()), BAD),
    Mutation("metrics-fifo", lambda f, d: ((f / METRICS).unlink(), os.mkfifo(f / METRICS)), BAD),
    Mutation(
        "vocabulary-shorter", edited("run/vocabulary.txt", lambda o, d: o[: len(o) // 2]), BAD
    ),
    Mutation("vocabulary-other", edited("run/vocabulary.txt", lambda o, d: o[::-1]), BAD),
    Mutation(
        "vocabulary-bom", edited("run/vocabulary.txt", lambda o, d: b"\xef\xbb\xbf" + o), EITHER
    ),
    Mutation("vocabulary-latin-1", edited("run/vocabulary.txt", lambda o, d: b"\xe9\n" + o), BAD),
    Mutation("recipe-other", edited("recipe.toml", lambda o, d: o.replace(b"1e-2", b"1e-3")), BAD),
    Mutation("text-other", edited("text.txt", lambda o, d: o.upper()), BAD),
    Mutation(
        "lock-folder", lambda f, d: ((f / "run/.lock").unlink(), (f / "run/.lock").mkdir()), BAD
    ),
    Mutation(
        "lock-fifo", lambda f, d: ((f / "run/.lock").unlink(), os.mkfifo(f / "run/.lock")), EITHER
    ),
    Mutation(
        "temporary",
        lambda f, d: (f / "run/.checkpoint.safetensors.partial").write_text("x"),
        MEASURED,
    ),
    Mutation(
        "temporary-folder", lambda f, d: (f / "run/.checkpoint.safetensors.partial").mkdir(), EITHER
    ),
    Mutation("result-before", content("run/result.json", b"{}"), EITHER),
    Mutation("result-damaged", content("run/result.json", b'{"valid_loss": '), BAD),
    Mutation("result-list", content("run/result.json", b"[]"), BAD),
    Mutation(
        "result-of-texts", content("run/result.json", b'{"valid_loss": "x", "steps": "y"}'), BAD
    ),
)

EVALUATE = Command(("evaluate", "run", "--tokens", "300", "--json", "out.json"), ("out.json",))
RANKS = Command((*EVALUATE.argv, "--with", "ranks:num_contexts=20"), ("out.json",))
TRAINED = (
    *regions("run/model.safetensors"),
    *abouts("run/model.safetensors"),
    *of_any_file("run/model.safetensors"),
    *of_any_file("run/recipe.json"),
    *of_any_json("run/recipe.json"),
    *of_any_file("run/vocabulary.txt"),
    *of_any_file("text.txt"),
    *rows(
        "run/recipe.json", "model.options", ["7", "[]", "{}", '{"num_hidden_layers":1000000000}']
    ),
    *rows(
        "run/recipe.json",
        "model.options.num_hidden_layers",
        ["0", "2", "-1", '"x"', "1000000000000"],
    ),
    *rows(
        "run/recipe.json", "model.options.hidden_size", ["0", "17", "32", "1000000000000", "NaN"]
    ),
    *rows("run/recipe.json", "model.context", ["0", "-1", "32", "1000000000000", "null"]),
    *rows("run/recipe.json", "model.name", ['"states"', '"nonsense"', "7"]),
    *rows("run/recipe.json", "head.num_components", ["0", "3", "1000000000000", '"2"']),
    *rows("run/recipe.json", "head.name", ['"softmax"', '"nonsense"', r'"\u001b[31m"']),
    *rows("run/recipe.json", "data.text", ['"/dev/zero"', '"nowhere"', "7", r'"\u001b[31m\n"']),
    *rows("run/recipe.json", "data.tokens", ['"model"', '"nowhere"', "7"]),
    *rows("run/recipe.json", "seed", ["-1", "1e308", "18446744073709551616", '"x"']),
    *rows("run/recipe.json", "nonsense", ["7"]),
    Mutation(
        "vocabulary-shorter", edited("run/vocabulary.txt", lambda o, d: o[: len(o) // 2]), BAD
    ),
    Mutation(
        "vocabulary-escape",
        edited("run/vocabulary.txt", lambda o, d: o.replace(b"wall", b"\x1b[31m")),
        BAD,
    ),
    Mutation("text-other", edited("text.txt", lambda o, d: o.upper()), BAD),
)

STATES = "states-*"
CACHE = "runs/states-*/"


def flipped(name: str, at: Callable[[bytes, Random], int]) -> Change:
    def how(old: bytes, draw: Random) -> bytes:
        data = bytearray(old)
        data[at(old, draw)] ^= 1 << draw.randrange(8)
        return bytes(data)

    return edited(name, how)


def of_an_array(name: str) -> list[Mutation]:
    """A .npy file: a bit in its header and in its numbers, another shape or type, cut."""
    path = f"{CACHE}{name}.npy"
    changes: dict[str, Change] = {
        "flip-magic": flipped(path, lambda o, d: d.randrange(8)),
        "flip-header": flipped(path, lambda o, d: o.index(b"shape") + 9),
        "flip-first": flipped(path, lambda o, d: 128),
        "flip-last": flipped(path, lambda o, d: len(o) - 1),
        "flip": flipped(path, lambda o, d: d.randrange(128, len(o))),
        "cut": edited(path, lambda o, d: o[:-3]),
        "more": edited(path, lambda o, d: o + bytes(64)),
        "objects": edited(
            path, lambda o, d: o.replace(b"'<f4'", b"'|O' ").replace(b"'<i8'", b"'|O' ")
        ),
        "doubles": edited(
            path, lambda o, d: o.replace(b"'<f4'", b"'<f8'").replace(b"'<i8'", b"'<f8'")
        ),
        "shape": edited(path, lambda o, d: o.replace(b"(", b"(9", 1)),
        "fortran": edited(path, lambda o, d: o.replace(b"False", b"True ")),
        "zeros": edited(path, lambda o, d: o[:128] + bytes(len(o) - 128)),
        "empty": content_of(path, b""),
        "missing": lambda f, d: sorted(f.glob(path))[0].unlink(),
        "fifo": lambda f, d: _fifo(sorted(f.glob(path))[0]),
    }
    return [Mutation(f"{name}-{how}", change, BAD) for how, change in changes.items()]


def content_of(name: str, new: bytes) -> Change:
    return edited(name, lambda old, draw: new)


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _with_doubles(how: Callable[[Path], object]) -> Change:
    return lambda folder, draw: how(sorted(folder.glob(CACHE.rstrip("/")))[0])


ON_STATES = (
    *[
        m
        for name in ("weight", "train-hidden", "train-target", "valid-hidden")
        for m in of_an_array(name)
    ],
    *[
        m
        for name in ("logit_scale", "valid-document", "train-bytes")
        for m in of_an_array(name)[:6]
    ],
    Mutation("about-missing", _with_doubles(lambda p: (p / "about.json").unlink()), MEASURED),
    Mutation("about-empty", content_of(f"{CACHE}about.json", b""), EITHER),
    Mutation("about-list", content_of(f"{CACHE}about.json", b"[]"), EITHER),
    Mutation("about-other", content_of(f"{CACHE}about.json", b'{"model": "x"}'), EITHER),
    Mutation("leftover", lambda f, d: _leftover(f), MEASURED),
    *regions("runs/run/checkpoint.safetensors"),
)


def _leftover(folder: Path) -> None:
    """Leave what a process leaves that was killed while it cached states."""
    place = folder / "runs/.states-0123456789ab.x1y2"
    place.mkdir()
    (place / "weight.npy").write_bytes(bytes(999))


def reproduction_rows() -> list[Mutation]:
    """A finished run's JSON, by values of other kinds."""
    name = "out/seed0.json"
    keys = (
        "seed",
        "seconds",
        "versions",
        "audit",
        "head_sha256",
        "audit.by_size",
        "audit.num_windows",
    )
    keys += ("audit.by_size.0.mass", "audit.by_size.0.size", "audit.by_length.0.length")
    return [
        m
        for key in keys
        for m in rows(name, key, ["null", '"x"', "-1", "1e999", "NaN", "[]", "{}"])
    ]


REPRODUCE = Command(
    (*REPRODUCE_AGAIN, "--json", "out.json"),
    ("out.json",),
    ("out",),
)
RESULTS = (
    *of_any_json("out/seed0.json"),
    *[
        m
        for m in of_any_file("out/seed0.json")
        if "missing" not in m.name and "dangling" not in m.name and "loop" not in m.name
    ],
    *of_any_json("out/settings.json"),
    *of_any_file("out/settings.json"),
    *reproduction_rows(),
    *rows("out/settings.json", "scale", ['"paper"', "null", "7"]),
    Mutation("unknown-key", literal("out/seed0.json", "nonsense", "7"), BAD),
    Mutation("settings-key", literal("out/settings.json", r"\u001b[31m", "7"), BAD),
    Mutation(
        "numbers-scaled", changed_json("out/seed0.json", lambda r: r | {"seconds": 1e308}), EITHER
    ),
    Mutation("text-other", edited("text.txt", lambda o, d: o.upper()), BAD),
)

OWN = (
    Format("checkpoint", "interrupted", {"train": resumed("run", "run")}, ("run/*",), RESUME),
    Format("run", "finished", {"evaluate": EVALUATE, "ranks": RANKS}, ("run/*",), TRAINED),
    Format(
        "states",
        "states",
        {"train": resumed("runs/run", "runs")},
        (f"{CACHE}*", "runs/run/*.safetensors"),
        ON_STATES,
    ),
    Format("reproduction", "reproduction", {"reproduce": REPRODUCE}, ("out/*.json",), RESULTS),
)
