"""Recipes: TOML that is none, numbers that cannot be, files in the place of others."""

import os
from dataclasses import replace
from functools import partial

from bench.fuzz.case import MEASURED, Change, Command, Format, under
from bench.fuzz.edits import all_of, at, content, edited, of_any_file, values

FILE = "recipe.toml"
TRAIN = Command(("train", FILE, "--out", "out", "--json", "out.json"), ("out.json",), ("out",))
ON_STATES = Command(
    ("train", "states.toml", "--out", "runs/out", "--json", "out.json"), ("out.json",), ("runs",)
)
train, states = under("train"), under("states")


def setting(name: str, keys: str, value: str) -> Change:
    """A key such as "model.context" set once; "top" is what stands before the tables."""
    table, _, key = keys.rpartition(".")

    def how(old: bytes) -> bytes:
        lines = old.decode().split("\n")
        begins = f"[{table}]"
        if table != "top" and begins not in lines:
            lines.append(begins)
        at = 0 if table == "top" else lines.index(begins) + 1
        end = next((i for i in range(at, len(lines)) if lines[i].startswith("[")), len(lines))
        inside = [line for line in lines[at:end] if line.split("=")[0].strip() != key]
        return "\n".join([*lines[:at], f"{key} = {value}", *inside, *lines[end:]]).encode()

    return edited(name, how)


SETTINGS = r"""
top.seed                        train  either   0  -1  1e308  1000000000000  9223372036854775808
  nan  inf  "x"  []  true
top.initial                     train  either   "/dev/zero"  "nowhere"  7  ""
training.epochs                 train  refused  0  -1  nan  inf  "x"  []  1979-05-27
training.epochs                 train  either   1e-300
training.batch_size             train  refused  0  -1  2.5  true  nan  inf  "x"  []  1979-05-27
training.batch_size             train  either   HUGE  1e308
training.segment                train  either   HUGE  0
training.evaluation_batch_size  train  either   HUGE  0
training.evaluate_every         train  either   1e-300  1e308  0  nan
training.log_every              train  either   HUGE  0  18446744073709551616
training.evaluation_tokens      train  either   HUGE  1  2
training.checkpoint_every       train  either   nan  inf  1e308  -1
training.longest                train  either   HUGE  -1
optimizer.learning_rate         train  either   1e308  nan  inf  -1  0  "x"
optimizer.weight_decay          train  either   1e308  nan  -1
optimizer.warmup                train  either   1e308  nan  -1  2
optimizer.clip                  train  either   0  nan  -1  1e308
optimizer.betas                 train  either   [1,1]  [2,2]  [0.9]  "x"  [nan,0.9]
model.context                   train  either   0  -1  HUGE  1e308  18446744073709551616
model.architecture              train  either   "nonsense"  "bert"  "t5"  "vit"  "mamba"  7
  "\u001b[31m"
model.name                      train  either   "nonsense"  7  []  "\u001b[31m\n"  "awd_lstm"
model.options.hidden_size       train  refused  0  -16  17  1e308  HUGE  nan
model.options.num_hidden_layers    train  refused  -1  1e308  HUGE  100000000  "x"
model.options.num_attention_heads  train  refused  0  -1  3  HUGE
model.options.num_key_value_heads  train  refused  0  3  HUGE
model.options.intermediate_size    train  refused  HUGE  -1
model.options.intermediate_size    train  either   0
model.options.head_dim             train  refused  0  HUGE  7
model.options.vocab_size           train  either   7  HUGE
model.options.num_labels           train  refused  HUGE
model.options.hidden_act           train  refused  "nonsense"  7
model.options.initializer_range    train  either   1e308  nan  -1  "x"
model.options.rms_norm_eps         train  either   1e308  -1
model.options.pad_token_id         train  either   1000000000  -7
model.options.attn_implementation  train  either   "kernels-community/x"  "nonsense"
model.options.nonsense             train  refused  7
head.num_components             train  refused  0  -1  HUGE  1e308  true
head.dropout                    train  refused  1  -1  nan  1e308
head.name                       train  refused  "nonsense"  7  "\u001b[31m"
data.text                       train  refused  "/dev/zero"  "nowhere"  "."  7  ""  "a\u0000b"
  "\u001b[31m\n"  "datasets:"  "datasets:nobody/nothing"
data.vocab_size                 train  refused  0  2  -1  nan
data.vocab_size                 train  either   HUGE
data.tokens                     train  either   "nowhere"  "/dev/zero"  7  ""  "model/config.json"
data.tokens                     train  measured  "model"  "model/tokenizer.json"
data.expect                     train  refused  { train = 7 }  7  { x = 1 }  { train = nan }
""".replace("HUGE", "1000000000000  9223372036854775807")
SETTINGS_OF_STATES = """
model.model          states  refused  "nowhere"  "/dev/zero"  "text.txt"  7
model.train_tokens   states  refused  0  7  1000000000000  9223372036854775807  1e308
model.window         states  refused  1  1000000000000
model.start          states  refused  "nonsense"  "whitened"
training.batch_size  states  either   1000000000000  9223372036854775807
"""
recipe, out = partial(edited, FILE), partial(at, "out")
TABLE = (
    *values(FILE, SETTINGS, setting),
    *[
        replace(row, name=f"states-{row.name.partition('.')[2]}")
        for row in values("states.toml", SETTINGS_OF_STATES, setting)
    ],
    *states("states-good", all_of(), MEASURED),
    *train("deep", content(FILE, b"x = " + b"[" * 100_000)),
    *train("deep-closed", content(FILE, b"x = " + b"[" * 2000 + b"]" * 2000)),
    *train("dotted", content(FILE, b"a" + b".a" * 50_000 + b" = 1")),
    *train("digits", recipe(lambda o: b"x = " + b"9" * 10_000 + b"\n" + o)),
    *train("twice", recipe(lambda o: o + b"\n[data]\n")),
    *train("many-keys", recipe(lambda o: o + b"".join(b"k%d = 1\n" % i for i in range(20_000)))),
    *train("bom", recipe(lambda o: b"\xef\xbb\xbf" + o), MEASURED),
    *train("utf-16", recipe(lambda o: o.decode().encode("utf-16"))),
    *train("latin-1", recipe(lambda o: o + b"# \xe9\n")),
    *train("nul-among", recipe(lambda o: o + b"\0")),
    *train("windows", recipe(lambda o: o.replace(b"\n", b"\r\n")), MEASURED),
    *train("carriage-returns", recipe(lambda o: o.replace(b"\n", b"\r"))),
    *train("unknown-key-escape", recipe(lambda o: b'"\\u001b[31m\\n" = 1\n' + o)),
    *train("unknown-table", recipe(lambda o: o + b'\n["\\u202e"]\n')),
    *train("table-is-number", recipe(lambda o: o.replace(b"[training]", b"[[training]]"))),
    *train("json", content(FILE, b'{"model": {"name": "awd_lstm"}}')),
    *train("no-model", content(FILE, b"seed = 1\n")),
    *train("sparse-terabyte", at(FILE, lambda path: os.truncate(path, 2**40))),
    *train("out-is-file", out(lambda path: path.write_text("x"))),
    *train("out-is-strangers", out(lambda p: (p.mkdir(), (p / "thesis.tex").write_text("x")))),
    *train("out-is-fifo", out(os.mkfifo)),
    *train("out-dangles", out(lambda path: path.symlink_to("nowhere/at/all"))),
    *of_any_file(FILE, "train"),
)

RECIPES = (
    Format(
        "recipe", "recipes", {"train": TRAIN, "states": ON_STATES}, (FILE, "states.toml"), TABLE
    ),
)
