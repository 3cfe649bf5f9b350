"""Recipes: TOML that is none, numbers that cannot be, files in the place of others."""

import os
from pathlib import Path
from random import Random

from bench.fuzz.case import EITHER, MEASURED, REFUSED, Change, Command, Format, Mutation
from bench.fuzz.edits import content, edited, of_any_file, short

FILE = "recipe.toml"
BAD = REFUSED
TRAIN = Command(("train", FILE, "--out", "out", "--json", "out.json"), ("out.json",), ("out",))
ON_STATES = Command(
    ("train", "states.toml", "--out", "runs/out", "--json", "out.json"), ("out.json",), ("runs",)
)
ABSURD = (
    "0",
    "-1",
    "1e308",
    "1000000000000",
    "9223372036854775808",
    "nan",
    "inf",
    '"x"',
    "[]",
    "true",
)


def setting(table: str, key: str, value: str, name: str = FILE) -> Change:
    """A key of a table, set once."""

    def how(old: bytes, draw: Random) -> bytes:
        lines = [line for line in old.decode().split("\n")]
        at = 0 if not table else lines.index(f"[{table}]") + 1 if f"[{table}]" in lines else None
        if at is None:
            lines += [f"[{table}]"]
            at = len(lines)
        end = next((i for i in range(at, len(lines)) if lines[i].startswith("[")), len(lines))
        inside = [line for line in lines[at:end] if line.split("=")[0].strip() != key]
        return "\n".join([*lines[:at], f"{key} = {value}", *inside, *lines[end:]]).encode()

    return edited(name, how)


def absurd(
    table: str, *keys: str, values: tuple[str, ...] = ABSURD, expects: str = EITHER
) -> list[Mutation]:
    """Every key with every value."""
    return [
        Mutation(f"{table or 'top'}.{key}={short(value)}", setting(table, key, value), expects)
        for key in keys
        for value in values
    ]


def on_states(table: str, key: str, *values: str, expects: str = BAD) -> list[Mutation]:
    return [
        Mutation(
            f"states-{key}={short(value)}",
            setting(table, key, value, "states.toml"),
            expects,
            ("states",),
        )
        for value in values
    ]


HUGE = ("1000000000000", "9223372036854775807")
NO_NUMBER = ("nan", "inf", '"x"', "[]", "1979-05-27")

TABLE = (
    *absurd("", "seed"),
    *absurd("", "initial", values=('"/dev/zero"', '"nowhere"', "7", '""')),
    *absurd("training", "epochs", values=("0", "-1", *NO_NUMBER), expects=BAD),
    *absurd("training", "epochs", values=("1e-300",)),
    *absurd("training", "batch_size", values=("0", "-1", "2.5", "true", *NO_NUMBER), expects=BAD),
    *absurd("training", "batch_size", values=(*HUGE, "1e308")),
    *absurd("training", "segment", values=(*HUGE, "0")),
    *absurd("training", "evaluation_batch_size", values=(*HUGE, "0")),
    *absurd("training", "evaluate_every", values=("1e-300", "1e308", "0", "nan")),
    *absurd("training", "log_every", values=(*HUGE, "0", "18446744073709551616")),
    *absurd("training", "evaluation_tokens", values=(*HUGE, "1", "2")),
    *absurd("training", "checkpoint_every", values=("nan", "inf", "1e308", "-1")),
    *absurd("training", "longest", values=(*HUGE, "-1")),
    *absurd("optimizer", "learning_rate", values=("1e308", "nan", "inf", "-1", "0", '"x"')),
    *absurd("optimizer", "weight_decay", values=("1e308", "nan", "-1")),
    *absurd("optimizer", "warmup", values=("1e308", "nan", "-1", "2")),
    *absurd("optimizer", "clip", values=("0", "nan", "-1", "1e308")),
    *absurd("optimizer", "betas", values=("[1,1]", "[2,2]", "[0.9]", '"x"', "[nan,0.9]")),
    *absurd("model", "context", values=("0", "-1", *HUGE, "1e308", "18446744073709551616")),
    *absurd(
        "model",
        "architecture",
        values=('"nonsense"', '"bert"', '"t5"', '"vit"', '"mamba"', "7", r'"\u001b[31m"'),
    ),
    *absurd("model", "name", values=('"nonsense"', "7", "[]", r'"\u001b[31m\n"', '"awd_lstm"')),
    *absurd(
        "model.options",
        "hidden_size",
        values=("0", "-16", "17", "1e308", *HUGE, "nan"),
        expects=BAD,
    ),
    *absurd(
        "model.options",
        "num_hidden_layers",
        values=("-1", "1e308", *HUGE, "100000000", '"x"'),
        expects=BAD,
    ),
    *absurd("model.options", "num_attention_heads", values=("0", "-1", "3", *HUGE), expects=BAD),
    *absurd("model.options", "num_key_value_heads", values=("0", "3", *HUGE), expects=BAD),
    *absurd("model.options", "intermediate_size", values=(*HUGE, "-1"), expects=BAD),
    *absurd("model.options", "intermediate_size", values=("0",)),
    *absurd("model.options", "head_dim", values=("0", *HUGE, "7"), expects=BAD),
    *absurd("model.options", "vocab_size", values=("7", *HUGE)),
    *absurd("model.options", "num_labels", values=HUGE, expects=BAD),
    *absurd("model.options", "hidden_act", values=('"nonsense"', "7"), expects=BAD),
    *absurd("model.options", "initializer_range", values=("1e308", "nan", "-1", '"x"')),
    *absurd("model.options", "rms_norm_eps", values=("1e308", "-1")),
    *absurd("model.options", "pad_token_id", values=("1000000000", "-7")),
    *absurd("model.options", "attn_implementation", values=('"kernels-community/x"', '"nonsense"')),
    *absurd("model.options", "nonsense", values=("7",), expects=BAD),
    *absurd("head", "num_components", values=("0", "-1", *HUGE, "1e308", "true"), expects=BAD),
    *absurd("head", "dropout", values=("1", "-1", "nan", "1e308"), expects=BAD),
    *absurd("head", "name", values=('"nonsense"', "7", r'"\u001b[31m"'), expects=BAD),
    *absurd(
        "data",
        "text",
        values=(
            '"/dev/zero"',
            '"nowhere"',
            '"."',
            "7",
            '""',
            r'"a\u0000b"',
            r'"\u001b[31m\n"',
            '"datasets:"',
            '"datasets:nobody/nothing"',
        ),
        expects=BAD,
    ),
    *absurd("data", "vocab_size", values=("0", "2", "-1", "nan"), expects=BAD),
    *absurd("data", "vocab_size", values=HUGE),
    *absurd(
        "data",
        "tokens",
        values=('"nowhere"', '"/dev/zero"', "7", '""', '"model/config.json"'),
    ),
    *absurd("data", "tokens", values=('"model"', '"model/tokenizer.json"'), expects=MEASURED),
    *absurd(
        "data", "expect", values=("{ train = 7 }", "7", "{ x = 1 }", "{ train = nan }"), expects=BAD
    ),
    *on_states("model", "model", '"nowhere"', '"/dev/zero"', '"text.txt"', "7"),
    *on_states("model", "train_tokens", "0", "7", *HUGE, "1e308"),
    *on_states("model", "window", "1", "1000000000000"),
    *on_states("model", "start", '"nonsense"', '"whitened"'),
    *on_states("training", "batch_size", *HUGE, expects=EITHER),
    Mutation("states-good", lambda f, d: None, MEASURED, ("states",)),
    Mutation("deep", content(FILE, b"x = " + b"[" * 100_000), BAD),
    Mutation("deep-closed", content(FILE, b"x = " + b"[" * 2000 + b"]" * 2000), BAD),
    Mutation("dotted", content(FILE, b"a" + b".a" * 50_000 + b" = 1"), BAD),
    Mutation("digits", edited(FILE, lambda o, d: b"x = " + b"9" * 10_000 + b"\n" + o), BAD),
    Mutation("twice", edited(FILE, lambda o, d: o + b"\n[data]\n"), BAD),
    Mutation(
        "many-keys",
        edited(FILE, lambda o, d: o + b"".join(b"k%d = 1\n" % i for i in range(20_000))),
        BAD,
    ),
    Mutation("bom", edited(FILE, lambda o, d: b"\xef\xbb\xbf" + o), MEASURED),
    Mutation("utf-16", edited(FILE, lambda o, d: o.decode().encode("utf-16")), BAD),
    Mutation("latin-1", edited(FILE, lambda o, d: o + b"# \xe9\n"), BAD),
    Mutation("nul-among", edited(FILE, lambda o, d: o + b"\0"), BAD),
    Mutation("windows", edited(FILE, lambda o, d: o.replace(b"\n", b"\r\n")), MEASURED),
    Mutation("carriage-returns", edited(FILE, lambda o, d: o.replace(b"\n", b"\r")), BAD),
    Mutation("unknown-key-escape", edited(FILE, lambda o, d: b'"\\u001b[31m\\n" = 1\n' + o), BAD),
    Mutation("unknown-table", edited(FILE, lambda o, d: o + b'\n["\\u202e"]\n'), BAD),
    Mutation(
        "table-is-number", edited(FILE, lambda o, d: o.replace(b"[training]", b"[[training]]")), BAD
    ),
    Mutation("json", content(FILE, b'{"model": {"name": "awd_lstm"}}'), BAD),
    Mutation("no-model", content(FILE, b"seed = 1\n"), BAD),
    Mutation("sparse-terabyte", lambda f, d: os.truncate(f / FILE, 2**40), BAD),
    Mutation("out-is-file", lambda f, d: (f / "out").write_text("x"), BAD),
    Mutation("out-is-strangers", lambda f, d: _stranger(f), BAD),
    Mutation("out-is-fifo", lambda f, d: os.mkfifo(f / "out"), BAD),
    Mutation("out-dangles", lambda f, d: (f / "out").symlink_to("nowhere/at/all"), BAD),
    *of_any_file(FILE),
)


def _stranger(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out/thesis.tex").write_text("x")


RECIPES = (
    Format(
        "recipe", "recipes", {"train": TRAIN, "states": ON_STATES}, (FILE, "states.toml"), TABLE
    ),
)
