"""Models saved with our heads, memories and normalizers."""

from bench.fuzz.case import EITHER, REFUSED, Command, Format, Mutation
from bench.fuzz.configs import CONFIG, OF_A_MODEL
from bench.fuzz.edits import literal, of_any_json, rows, without
from bench.fuzz.tensors import FILE, header, tensors

BAD = REFUSED
WHOLE, LOAD = "evaluate", "load"


def needed(*keys: str) -> list[Mutation]:
    """Keys without which the folder is not what it says."""
    return [Mutation(f"no-{key}", without(CONFIG, key), BAD, (WHOLE,)) for key in keys]


COMMON = (
    *needed("backbone", "architectures"),
    *of_any_json(CONFIG, WHOLE),
    *rows(CONFIG, "backbone", dict.fromkeys(["7", "[]", "{}", "null"], BAD), WHOLE, LOAD),
    *rows(
        CONFIG,
        "backbone.backbone_type",
        dict.fromkeys(['"nonsense"', "7", '"vit"', '"wideneck"'], BAD),
        WHOLE,
    ),
    *rows(CONFIG, "backbone.backbone_type", ['"gpt2"', '"bert"'], WHOLE),
    *rows(
        CONFIG,
        "backbone.num_hidden_layers",
        dict.fromkeys(["1", "3", "1000000000000", '"x"'], BAD),
        WHOLE,
        LOAD,
    ),
    *rows(
        CONFIG,
        "backbone.vocab_size",
        dict.fromkeys(["0", "95", "1000000000000", '"x"'], BAD),
        WHOLE,
    ),
    *rows(CONFIG, "backbone.hidden_size", dict.fromkeys(["0", "17", "1000000000000"], BAD), WHOLE),
    *rows(CONFIG, "backbone.architectures", ["[]", '["NoSuch"]', "7", '["BertModel"]'], WHOLE),
    *rows(CONFIG, "architectures", ["[]", '["LlamaForCausalLM"]', "7"], WHOLE),
    *rows(CONFIG, "vocab_size", ["7", "1000000000000", '"x"'], WHOLE),
    *rows(CONFIG, "backbone.num_labels", ["1000000000"], WHOLE),
    *rows(CONFIG, "backbone._attn_implementation", ['"kernels-community/x"'], WHOLE),
    *rows(CONFIG, "backbone.attn_implementation", ['"kernels-community/x"'], WHOLE),
    Mutation("key-with-escape", literal(CONFIG, "\x1b[31m\nx", "7"), EITHER, (WHOLE,)),
)
HEAD = (
    *COMMON,
    *needed("head"),
    *rows(CONFIG, "head", dict.fromkeys(["7", "[]", "{}", "null", '"moss"'], BAD), WHOLE, LOAD),
    *rows(
        CONFIG, "head.name", dict.fromkeys(['"nonsense"', "7", "null", r'"\u001b[31m"'], BAD), WHOLE
    ),
    *rows(CONFIG, "head.name", ['"softmax"', '"mos"', '"sigsoftmax"'], WHOLE),
    *rows(
        CONFIG,
        "head.num_components",
        dict.fromkeys(["0", "3", "-1", "1000000000000", '"2"', "NaN", "1e308", "true"], BAD),
        WHOLE,
        LOAD,
    ),
    *rows(CONFIG, "head.dropout", dict.fromkeys(["1", "-1", "NaN", '"x"'], BAD), WHOLE),
    *rows(CONFIG, "head.nonsense", {"7": BAD}, WHOLE),
    *rows(
        CONFIG,
        "logit_scale",
        dict.fromkeys(["0", "NaN", "Infinity", '"x"', "true", "[]", "1e999"], BAD),
        WHOLE,
    ),
    *rows(CONFIG, "logit_scale", ["-1", "1e308", "1e-320"], WHOLE),
    *rows(CONFIG, "logit_scale", ["NaN"], "head"),
    *rows(CONFIG, "vocab_size", ["7", "1000000000000", '"x"'], "head"),
    Mutation(
        "no-mixture",
        tensors(lambda t: {k: v for k, v in t.items() if "prior" not in k and "mix" not in k}),
        EITHER,
        (WHOLE,),
    ),
    Mutation(
        "extra-key",
        tensors(lambda t: t | {"lm_head.nonsense": t["lm_head.weight"].clone()}),
        BAD,
        (WHOLE,),
    ),
    Mutation(
        "head-nan",
        tensors(lambda t: t["lm_head.weight"].fill_(float("nan")) is None or None),
        EITHER,
        (WHOLE,),
    ),
    Mutation(
        "shape", header(lambda h: h["lm_head.weight"].update(shape=[16, 96])), BAD, (WHOLE, "head")
    ),
)
MEMORY = (
    *COMMON,
    *rows(CONFIG, "memory", dict.fromkeys(["7", "[]", "{}", '"x"'], BAD), WHOLE, LOAD),
    *rows(
        CONFIG,
        "memory.temperature",
        dict.fromkeys(["null", "NaN", '"x"', "0", "-1"], BAD),
        WHOLE,
        LOAD,
    ),
    *rows(CONFIG, "memory.temperature", ["1e308", "1e-320"], WHOLE, LOAD),
    *rows(CONFIG, "memory.bias", dict.fromkeys(["null", "NaN", '"x"'], BAD), WHOLE),
    *rows(CONFIG, "memory.bias", ["1e308", "-1e308"], WHOLE),
    *rows(CONFIG, "memory.nonsense", {"7": BAD}, WHOLE),
    *needed("head"),
)
NORMALIZER = (
    *COMMON,
    *needed("attention"),
    *rows(CONFIG, "attention", dict.fromkeys(["7", "[]", "{}", "null", '"x"'], BAD), WHOLE, LOAD),
    *rows(CONFIG, "attention.normalizer", ["7", '{"name":"nonsense"}', "[]", "null"], WHOLE),
    *rows(CONFIG, "attention.nonsense", ["7"], WHOLE),
)

FILES = (CONFIG, FILE)
LOADED = Command(("wn.load", "model"))
"""The model is loaded in Python and run on a few tokens."""
WAYS = {WHOLE: OF_A_MODEL[WHOLE], LOAD: LOADED}
SAVED = (
    Format("saved-head", "moss", {**WAYS, "head": OF_A_MODEL["head"]}, FILES, HEAD),
    Format("saved-memory", "memory", WAYS, FILES, MEMORY),
    Format("saved-normalizer", "normalizer", WAYS, FILES, NORMALIZER),
)
