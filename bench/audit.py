"""Time and memory of whole audits, as processes, with the share of each step.

    python -m bench audit                    default, head, cost, verify, wide: 16 minutes
    python -m bench audit default head      only these
    python -m bench audit cluster           four heads with a cluster of rows, 10 minutes each
    python -m bench audit cluster=20000,128,600     the same of that many rows, columns, members
    python -m bench audit compare           two 135M models on 16,384 tokens beside their passes
    python -m bench audit rows              verdicts on 3,000 random rows against a linear program
    python -m bench audit rows=7            the same with this seed
    python -m bench audit categories        of 262,144 tokens of byte-level BPE, 60 s allowed

All but the last are runs of `wideneck audit`; wall time and peak memory are the operating system's.
"start and write" is what the steps inside do not cover: interpreter, imports, tables, files.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from bench import argmax_rows
from bench.parts import run_child
from wideneck.audits.tokens import categorize
from wideneck.audits.tokens.spelling import LETTERS
from wideneck.models.source import default_model
from wideneck.models.tokens import token_strings

CASES = {  # name: (arguments, seconds allowed, GB allowed)
    "default": ([], 150, 4),
    "head": (["--section", "head"], 60, 2),
    "cost": (["--section", "cost"], 150, 3),  # 90 s of them beyond the states
    "verify": (["--section", "head", "--no-argmaxable", "--verify-tokens", "200"], 180, 4),
    # 262,144 x 640, Gaussian: as wide as the widest vocabularies of today.
    "wide": (["{wide}", "--section", "head"], 1200, 4),
    "wide-no-argmaxable": (["{wide}", "--section", "head", "--no-argmaxable"], 60, 4),
}


SHAPE = 150_000, 896, 3000
"""Rows, columns, and rows around one point."""
PLACES = {"typical": 1.0, "mean": 0.02}
"""Where the point lies: at the distance of a typical row from the mean, and near the mean."""
SUFFIX = {"Q8_0": ".gguf", "Q6_K": ".safetensors"}
"""By kind the file, of Q6_K with the numbers that come back from its blocks: the format allows no
rows of 896, and the gguf package does not write it."""


def main(arguments: list[str]) -> None:
    asked = _parser().parse_args(arguments).case or [*CASES]
    for name in asked:
        case, _, what = name.partition("=")
        if case in OTHERS:
            OTHERS[case](what)
    audits = [name for name in asked if name in CASES]
    if not audits:
        return
    subprocess.run([sys.executable, "-m", "bench.floor"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in audits:
            arguments, seconds, gigabytes = CASES[name]
            wide = Path(folder) / "wide.safetensors"
            if "{wide}" in arguments and not wide.exists():
                run_child("audit.write_wide", str(wide))
            arguments = [str(wide) if a == "{wide}" else a for a in arguments]
            _run(name, arguments, Path(folder) / "report.json", seconds, gigabytes)


def write_wide(file: str) -> None:
    """In a process of its own: one that holds much memory hands its peak on to its children."""
    torch.manual_seed(0)
    save_file({"lm_head.weight": torch.randn(262_144, 640)}, file)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench audit")
    parser.add_argument("case", nargs="*", type=_case, help=", ".join((*CASES, *OTHERS)))
    return parser


def _case(name: str) -> str:
    if name not in CASES and name.partition("=")[0] not in OTHERS:
        known = ", ".join((*CASES, *OTHERS))
        raise argparse.ArgumentTypeError(f"expected one of {known}, got {name!r}")
    return name


def _rows(seed: str) -> None:
    if argmax_rows.main(int(seed) if seed else None):
        sys.exit("rows: the audit and the linear program disagree")


def _cluster(shape: str) -> None:
    for place in PLACES:
        for kind, suffix in SUFFIX.items():
            with tempfile.TemporaryDirectory() as folder:
                head, out = Path(folder) / f"head{suffix}", Path(folder) / "report.json"
                sizes = [int(size) for size in shape.split(",")] if shape else SHAPE
                run_child("audit.write_cluster", str(head), place, kind, *sizes)
                name = f"cluster at {'the mean' if place == 'mean' else 'a typical row'}, {kind}"
                _run(name, [str(head), "--section", "head"], out, 600, 4)
                found = json.loads(out.read_text())["head"]["argmaxable"]
                print(f"  decided by {found['decided_by']}")
                print(
                    f"  {len(found['unargmaxable']):,} unargmaxable, "
                    f"{len(found['undecided']):,} undecided, {out.stat().st_size / 1e6:.0f} MB JSON"
                )


def _categories(size: str) -> None:
    """In one thread: the processor's seconds are those of one core."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    tokenizer = wide_tokenizer(int(size) if size else 262_144)
    strings = token_strings(tokenizer)
    start, wall = time.process_time(), time.perf_counter()
    found = categorize(tokenizer, strings, len(strings))
    spent, wall = time.process_time() - start, time.perf_counter() - wall
    print(f"\ncategories of {len(found):,} tokens: {spent:.1f} s of 60 allowed ({wall:.1f} s wall)")
    for category, count in Counter(map(str, found)).items():
        print(f"  {category:<28} {count:9,}")


LATIN = 52


def wide_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE of so many tokens, each but the bytes two older ones joined."""
    strings = [letter for letter, _ in sorted(LETTERS.items(), key=lambda pair: pair[1])]
    known, merges = set(strings), []
    generator = np.random.default_rng(0)
    old = [string for string in strings if string.isascii() and string.isalpha()]
    while len(strings) < size:
        left, right = old[generator.integers(len(old))], old[generator.integers(LATIN)]
        if left + right not in known and len(left) < 12:
            known.add(left + right)
            strings.append(left + right)
            old.append(left + right)
            merges.append((left, right))
    tokenizer = Tokenizer(models.BPE({s: i for i, s in enumerate(strings)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def _run(name: str, arguments: list[str], out: Path, seconds: float, gigabytes: float) -> None:
    command = [sys.executable, "-c", "from wideneck.cli import main; main()", "audit", *arguments]
    start = time.perf_counter()
    child = os.posix_spawn(
        sys.executable,
        [*command, "--json", str(out), "--html", str(out.with_suffix(".html"))],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - start
    if status != 0:
        sys.exit(f"{name}: the audit ended with status {os.waitstatus_to_exitcode(status)}")
    peak = usage.ru_maxrss * 1024 / 1e9
    print(f"\n{name}: {wall:.1f} s of {seconds} allowed, {peak:.2f} GB of {gigabytes}")
    steps = json.loads(out.read_text())["provenance"]["seconds"]
    steps["start and write"] = wall - sum(steps.values())
    for step, spent in steps.items():
        print(f"  {step:<28} {spent:7.1f} s  {100 * spent / wall:5.1f} %")


def planted(place: str, num_rows: int, width: int, members: int) -> np.ndarray:
    """A head with rows around one point, as never-trained rows lie, at random places.

    Gaussian numbers in float32; the rows have relative distances of 1e-3 to 1e-1.
    """
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((num_rows, width), dtype=np.float32)
    centre = PLACES[place] * generator.standard_normal(width)
    away = generator.standard_normal((members, width))
    away *= np.sqrt(width) / np.linalg.norm(away, axis=1, keepdims=True)
    distance = 10 ** generator.uniform(-3, -1, size=(members, 1))
    weight[generator.choice(num_rows, members, replace=False)] = centre + distance * away
    return 0.02 * weight


def through_q6_k(weight: np.ndarray) -> np.ndarray:
    """Rounded as in blocks of 256 numbers: x = d s q, d float16, s int8 for 16 numbers, |q| <= 32.

    The blocks run over the ends of rows where these are no multiple of 256.
    """
    groups = weight.reshape(-1, 16, 16)
    scale = np.abs(groups).max(2) / 32
    d = (scale.max(1, keepdims=True) / 127).astype(np.float16).astype(np.float32)
    s = np.clip(np.round(scale / np.where(d > 0, d, 1)), 1, 127)
    step = (d * s)[:, :, None]
    q = np.clip(np.round(groups / np.where(step > 0, step, 1)), -32, 31)
    return (step * q).reshape(weight.shape).astype(np.float32)


def write_cluster(file: str, place: str, kind: str, *shape: int) -> None:
    weight = planted(place, *shape)
    if kind == "Q6_K":
        save_file({"lm_head.weight": torch.from_numpy(through_q6_k(weight))}, file)
        return
    writer = gguf.GGUFWriter(file, "llama")
    stored = gguf.quantize(weight, gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("output.weight", stored, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _compare(tokens: str) -> None:
    """The default model beside itself, and what one pass of it takes: an evaluation."""
    model, asked = str(default_model()), ["--tokens", tokens or "16384", "--json", "-"]
    steps = {}
    for name, named in (("evaluate", [model]), ("compare", [model, model])):
        command = [sys.executable, "-m", "wideneck", name, *named, *asked]
        done = subprocess.run(command, check=True, capture_output=True)
        steps[name] = json.loads(done.stdout)["source"]["seconds"]
    one, both = (sum(steps[name].values()) for name in ("evaluate", "compare"))
    print(f"\ncompare: {both:.1f} s, {both / one:.2f} passes of {one:.1f} s; 2.4 allowed")
    for step, spent in steps["compare"].items():
        print(f"  {step:<28} {spent:7.1f} s  {100 * spent / both:5.1f} %")


OTHERS = {"compare": _compare, "rows": _rows, "cluster": _cluster, "categories": _categories}
"""Cases that take a value behind "="."""
