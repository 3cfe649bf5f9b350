"""What wideneck itself has written, once a stranger or a bad disk has had it: runs and states."""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from bench.fuzz.case import (
    EITHER,
    MEASURED,
    REFUSED,
    Change,
    Command,
    Format,
    Mutation,
    under,
)
from bench.fuzz.edits import (
    at,
    changed_json,
    content,
    edited,
    edited_by,
    instead,
    literal,
    of_any_file,
    of_any_json,
    values,
)
from bench.fuzz.seeds import REPRODUCE as REPRODUCE_AGAIN
from bench.fuzz.tensors import header, start_of
from wideneck.files.sums import sum_of
from wideneck.training.tensor_file import SUMMED

train, evaluate, reproduce = under("train"), under("evaluate"), under("reproduce")


def resumed(out: str, *places: str) -> Command:
    argv = ("train", "recipe.toml", "--out", out, "--json", "out.json")
    return Command(argv, ("out.json",), places)


def flipped(name: str, place: Callable[[bytes, Random], int]) -> Change:
    """One bit of the byte at a place."""

    def how(old: bytes, draw: Random) -> bytes:
        data = bytearray(old)
        data[place(old, draw)] ^= 1 << draw.randrange(8)
        return bytes(data)

    return edited_by(name, how)


def regions(name: str, command: str) -> list[Mutation]:
    """A bit in each part of a safetensors file, and its sizes."""
    changes = {
        "flip-length": flipped(name, lambda old, draw: draw.randrange(8)),
        "flip-header": flipped(name, lambda old, draw: old.index(b"shape") + 8),
        "flip-about": flipped(name, lambda o, draw: o.index(b"wideneck") + draw.randrange(8, 60)),
        "flip-first": flipped(name, lambda old, draw: start_of(old)),
        "flip-last": flipped(name, lambda old, draw: len(old) - 1),
    }
    anywhere = flipped(name, lambda old, draw: draw.randrange(start_of(old), len(old)))
    changes |= dict.fromkeys([f"flip-{k}" for k in range(4)], anywhere)
    changes |= {
        "cut": edited(name, lambda old: old[: len(old) // 2]),
        "cut-by-one": edited(name, lambda old: old[:-1]),
        "one-more": edited(name, lambda old: old + b"\0"),
        "zeros": edited(name, lambda old: old[:-512] + bytes(512)),
    }
    base = Path(name).name.split(".")[0]
    return [Mutation(f"{base}-{k}", change, REFUSED, (command,)) for k, change in changes.items()]


def about(name: str, how: Callable[[dict[str, Any]], Any], *, summed: bool) -> Change:
    """The JSON that a header carries in its metadata, through a function; with its right sum?"""

    def change(head: dict[str, Any]) -> None:
        found, _, stored = head["__metadata__"][SUMMED].partition(" ")
        inside = json.loads(stored)
        new = json.dumps(inside | {"about": how(inside["about"])})
        head["__metadata__"][SUMMED] = f"{sum_of(new.encode()) if summed else found} {new}"

    return header(change, name)


def abouts(name: str, command: str) -> list[Mutation]:
    """A header of other content, with the sum of the old one and, as a forger would, its own."""

    def numbers(new: Callable[[Any], Any], kind: Any = int | float) -> Callable[[dict], dict]:
        return lambda a: {k: new(v) if isinstance(v, kind) else v for k, v in a.items()}

    changes: dict[str, Callable[[dict[str, Any]], Any]] = {
        "empty": lambda a: {},
        "list": lambda a: [],
        "no-standing": lambda a: {k: v for k, v in a.items() if k != "standing"} | {"x": 7},
        "numbers": lambda a: dict.fromkeys(a, 7),
        "texts": lambda a: dict.fromkeys(a, "x"),
        "nones": dict.fromkeys,
        "negative": numbers(lambda v: -v, int),
        "nan": numbers(lambda v: float("nan")),
        "huge": numbers(lambda v: 10**30),
    }
    base = Path(name).name.split(".")[0]
    return [
        Mutation(f"{base}-about-{k}{end}", about(name, how, summed=bool(end)), expects, (command,))
        for k, how in changes.items()
        for end, expects in (("", REFUSED), ("-summed", EITHER))
    ]


def halved(name: str) -> Change:
    return edited(name, lambda old: old[: len(old) // 2])


CHECKPOINT, METRICS, LOCK = "run/checkpoint.safetensors", "run/metrics.jsonl", "run/.lock"
WORDS, RECIPE, RESULT = "run/vocabulary.txt", "run/recipe.json", "run/result.json"
PARTIAL = "run/.checkpoint.safetensors.partial"
OTHER_TEXT = edited("text.txt", bytes.upper)
RESUME = (
    *regions(CHECKPOINT, "train"),
    *abouts(CHECKPOINT, "train"),
    *of_any_file(CHECKPOINT, "train", gone=EITHER),
    *of_any_file(RECIPE, "train"),
    *of_any_json(RECIPE, "train"),
    *of_any_file(WORDS, "train", gone=EITHER),
    *of_any_file("run/model.safetensors", "train", junk=EITHER, node=EITHER, gone=EITHER),
    *train("metrics-empty", content(METRICS, b"")),
    *train("metrics-missing", at(METRICS, Path.unlink)),
    *train("metrics-shorter", halved(METRICS)),
    *train("metrics-half-a-line-more", edited(METRICS, lambda o: o + b'{"step": 9'), MEASURED),
    *train("metrics-lines-more", edited(METRICS, lambda o: o + b'{"step": 999}\n' * 3), MEASURED),
    *train("metrics-folder", instead(METRICS, Path.mkdir)),
    *train("metrics-fifo", instead(METRICS, os.mkfifo)),
    *train("vocabulary-shorter", halved(WORDS)),
    *train("vocabulary-other", edited(WORDS, lambda old: old[::-1])),
    *train("vocabulary-bom", edited(WORDS, lambda old: b"\xef\xbb\xbf" + old), EITHER),
    *train("vocabulary-latin-1", edited(WORDS, lambda old: b"\xe9\n" + old)),
    *train("recipe-other", edited("recipe.toml", lambda old: old.replace(b"1e-2", b"1e-3"))),
    *train("text-other", OTHER_TEXT),
    *train("lock-folder", instead(LOCK, Path.mkdir)),
    *train("lock-fifo", instead(LOCK, os.mkfifo), EITHER),
    *train("temporary", content(PARTIAL, b"x"), MEASURED),
    *train("temporary-folder", at(PARTIAL, Path.mkdir), EITHER),
    *train("result-before", content(RESULT, b"{}"), EITHER),
    *train("result-damaged", content(RESULT, b'{"valid_loss": ')),
    *train("result-list", content(RESULT, b"[]")),
    *train("result-of-texts", content(RESULT, b'{"valid_loss": "x", "steps": "y"}')),
)

EVALUATE = Command(("evaluate", "run", "--tokens", "300", "--json", "out.json"), ("out.json",))
RANKS = Command((*EVALUATE.argv, "--with", "ranks:num_contexts=20"), ("out.json",))
VALUES = r"""
model.options                    evaluate  either  7  []  {}  {"num_hidden_layers":1000000000}
model.options.num_hidden_layers  evaluate  either  0  2  -1  "x"  1000000000000
model.options.hidden_size        evaluate  either  0  17  32  1000000000000  NaN
model.context                    evaluate  either  0  -1  32  1000000000000  null
model.name                       evaluate  either  "states"  "nonsense"  7
head.num_components              evaluate  either  0  3  1000000000000  "2"
head.name                        evaluate  either  "softmax"  "nonsense"  "\u001b[31m"
data.text                        evaluate  either  "/dev/zero"  "nowhere"  7  "\u001b[31m\n"
data.tokens                      evaluate  either  "model"  "nowhere"  7
seed                             evaluate  either  -1  1e308  18446744073709551616  "x"
nonsense                         evaluate  either  7
"""
TRAINED = (
    *regions("run/model.safetensors", "evaluate"),
    *abouts("run/model.safetensors", "evaluate"),
    *of_any_file("run/model.safetensors", "evaluate"),
    *of_any_file(RECIPE, "evaluate"),
    *of_any_json(RECIPE, "evaluate"),
    *of_any_file(WORDS, "evaluate"),
    *of_any_file("text.txt", "evaluate"),
    *values(RECIPE, VALUES),
    *evaluate("vocabulary-shorter", halved(WORDS)),
    *evaluate("vocabulary-escape", edited(WORDS, lambda old: old.replace(b"wall", b"\x1b[31m"))),
    *evaluate("text-other", OTHER_TEXT),
)

CACHE = "runs/states-*"
ABOUT = f"{CACHE}/about.json"


def of_an_array(name: str) -> list[Mutation]:
    """A .npy file: a bit in its header and in its numbers, another shape or type, cut."""
    path = f"{CACHE}/{name}.npy"
    array, flip = partial(edited, path), partial(flipped, path)

    def typed(*new: bytes) -> Change:
        """Other types in the place of float32 and of int64."""
        return array(lambda old: old.replace(b"'<f4'", new[0]).replace(b"'<i8'", new[-1]))

    changes: dict[str, Change] = {
        "flip-magic": flip(lambda old, draw: draw.randrange(8)),
        "flip-header": flip(lambda old, draw: old.index(b"shape") + 9),
        "flip-first": flip(lambda old, draw: 128),
        "flip-last": flip(lambda old, draw: len(old) - 1),
        "flip": flip(lambda old, draw: draw.randrange(128, len(old))),
        "cut": array(lambda old: old[:-3]),
        "more": array(lambda old: old + bytes(64)),
        "objects": typed(b"'|O' "),
        "doubles": typed(b"'<f8'"),
        "shape": array(lambda old: old.replace(b"(", b"(9", 1)),
        "fortran": array(lambda old: old.replace(b"False", b"True ")),
        "zeros": array(lambda old: old[:128] + bytes(len(old) - 128)),
        "empty": array(lambda old: b""),
        "missing": at(path, Path.unlink),
        "fifo": instead(path, os.mkfifo),
    }
    return [
        Mutation(f"{name}-{how}", change, REFUSED, ("train",)) for how, change in changes.items()
    ]


def _leftover(runs: Path) -> None:
    """Leave what a process leaves that was killed while it cached states."""
    place = runs / ".states-0123456789ab.x1y2"
    place.mkdir()
    (place / "weight.npy").write_bytes(bytes(999))


WHOLE_TABLE = ("weight", "train-hidden", "train-target", "valid-hidden")
BEGINNING = ("logit_scale", "valid-document", "train-bytes")
ON_STATES = (
    *[row for name in WHOLE_TABLE for row in of_an_array(name)],
    *[row for name in BEGINNING for row in of_an_array(name)[:6]],
    *train("about-missing", at(ABOUT, Path.unlink), MEASURED),
    *train("about-empty", edited(ABOUT, lambda old: b""), EITHER),
    *train("about-list", edited(ABOUT, lambda old: b"[]"), EITHER),
    *train("about-other", edited(ABOUT, lambda old: b'{"model": "x"}'), EITHER),
    *train("leftover", at("runs", _leftover), MEASURED),
    *regions("runs/run/checkpoint.safetensors", "train"),
)

REPRODUCE = Command((*REPRODUCE_AGAIN, "--json", "out.json"), ("out.json",), ("out",))
SEED_0, SETTINGS = "out/seed0.json", "out/settings.json"
KEYS = ("seed", "seconds", "versions", "audit", "head_sha256", "audit.by_size", "audit.num_windows")
KEYS += ("audit.by_size.0.mass", "audit.by_size.0.size", "audit.by_length.0.length")
OTHER_KINDS = [f'{key}  reproduce  either  null  "x"  -1  1e999  NaN  []  {{}}' for key in KEYS]
RESULTS = (
    *of_any_json(SEED_0, "reproduce"),
    *of_any_file(SEED_0, "reproduce")[:6],
    *of_any_json(SETTINGS, "reproduce"),
    *of_any_file(SETTINGS, "reproduce"),
    *values(SEED_0, "\n".join(OTHER_KINDS)),
    *values(SETTINGS, 'scale  reproduce  either  "paper"  null  7'),
    *reproduce("unknown-key", literal(SEED_0, "nonsense", "7")),
    *reproduce("settings-key", literal(SETTINGS, r"\u001b[31m", "7")),
    *reproduce("numbers-scaled", changed_json(SEED_0, lambda r: r | {"seconds": 1e308}), EITHER),
    *reproduce("text-other", OTHER_TEXT),
)

OWN = (
    Format("checkpoint", "interrupted", {"train": resumed("run", "run")}, ("run/*",), RESUME),
    Format("run", "finished", {"evaluate": EVALUATE, "ranks": RANKS}, ("run/*",), TRAINED),
    Format(
        "states",
        "states",
        {"train": resumed("runs/run", "runs")},
        (f"{CACHE}/*", "runs/run/*.safetensors"),
        ON_STATES,
    ),
    Format("reproduction", "reproduction", {"reproduce": REPRODUCE}, ("out/*.json",), RESULTS),
)
