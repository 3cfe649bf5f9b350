"""Models saved with our heads, memories and normalizers."""

from bench.fuzz.case import EITHER, REFUSED, Command, Format, Mutation, whole
from bench.fuzz.configs import CONFIG, OF_A_MODEL
from bench.fuzz.edits import literal, of_any_json, values, without
from bench.fuzz.tensors import FILE, HEAD, field, tensors, value


def needed(*keys: str) -> list[Mutation]:
    """Keys without which the folder is not what it says."""
    return [row for key in keys for row in whole(f"no-{key}", without(CONFIG, key))]


OF_ALL = """
backbone                      evaluate,load  refused  7  []  {}  null
backbone.backbone_type        evaluate       refused  "nonsense"  7  "vit"  "wideneck"
backbone.backbone_type        evaluate       either   "gpt2"  "bert"
backbone.num_hidden_layers    evaluate,load  refused  1  3  1000000000000  "x"
backbone.vocab_size           evaluate       refused  0  95  1000000000000  "x"
backbone.hidden_size          evaluate       refused  0  17  1000000000000
backbone.architectures        evaluate       either   []  ["NoSuch"]  7  ["BertModel"]
architectures                 evaluate       either   []  ["LlamaForCausalLM"]  7
vocab_size                    evaluate       either   7  1000000000000  "x"
backbone.num_labels           evaluate       either   1000000000
backbone._attn_implementation  evaluate  either   "kernels-community/x"
backbone.attn_implementation  evaluate   either   "kernels-community/x"
"""
OF_HEADS = r"""
head                 evaluate,load  refused  7  []  {}  null  "moss"
head.name            evaluate       refused  "nonsense"  7  null  "\u001b[31m"
head.name            evaluate       either   "softmax"  "mos"  "sigsoftmax"
head.num_components  evaluate,load  refused  0  3  -1  1000000000000  "2"  NaN  1e308  true
head.dropout         evaluate       refused  1  -1  NaN  "x"
head.nonsense        evaluate       refused  7
logit_scale          evaluate       refused  0  NaN  Infinity  "x"  true  []  1e999
logit_scale          evaluate       either   -1  1e308  1e-320
logit_scale          head           either   NaN
vocab_size           head           either   7  1000000000000  "x"
"""
OF_MEMORIES = """
memory              evaluate,load  refused  7  []  {}  "x"
memory.temperature  evaluate,load  refused  null  NaN  "x"  0  -1
memory.temperature  evaluate,load  either   1e308  1e-320
memory.bias         evaluate       refused  null  NaN  "x"
memory.bias         evaluate       either   1e308  -1e308
memory.nonsense     evaluate       refused  7
"""
OF_NORMALIZERS = """
attention             evaluate,load  refused  7  []  {}  null  "x"
attention.normalizer  evaluate       either   7  {"name":"nonsense"}  []  null
attention.nonsense    evaluate       either   7
"""
COMMON = (
    *needed("backbone", "architectures"),
    *of_any_json(CONFIG, "evaluate"),
    *values(CONFIG, OF_ALL),
    *whole("key-with-escape", literal(CONFIG, "\x1b[31m\nx", "7"), EITHER),
)
HEADS = (
    *COMMON,
    *needed("head"),
    *values(CONFIG, OF_HEADS),
    *whole(
        "no-mixture",
        tensors(lambda t: {k: v for k, v in t.items() if "prior" not in k and "mix" not in k}),
        EITHER,
    ),
    *whole("extra-key", tensors(lambda t: t | {"lm_head.nonsense": t[HEAD]})),
    *whole("head-nan", value(HEAD, float("nan")), EITHER),
    Mutation("shape", field("shape", [16, 96]), REFUSED, ("evaluate", "head")),
)
MEMORIES = (*COMMON, *values(CONFIG, OF_MEMORIES), *needed("head"))
NORMALIZERS = (*COMMON, *needed("attention"), *values(CONFIG, OF_NORMALIZERS))

FILES = (CONFIG, FILE)
LOADED = Command(("wn.load", "model"))
"""The model is loaded in Python and run on a few tokens."""
WAYS = {"evaluate": OF_A_MODEL["evaluate"], "load": LOADED}
SAVED = (
    Format("saved-head", "moss", {**WAYS, "head": OF_A_MODEL["head"]}, FILES, HEADS),
    Format("saved-memory", "memory", WAYS, FILES, MEMORIES),
    Format("saved-normalizer", "normalizer", WAYS, FILES, NORMALIZERS),
)
