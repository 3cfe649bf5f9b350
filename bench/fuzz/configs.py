"""config.json of a model: sizes that cannot be, other kinds, code, kernels, JSON that is none."""

from bench.fuzz.case import EITHER, MEASURED, REFUSED, Command, Format, Mutation
from bench.fuzz.edits import (
    all_of,
    bom,
    changed_json,
    content,
    literal,
    of_any_file,
    of_any_json,
    rows,
    without,
)

CONFIG = "model/config.json"
REPORTS = ("--json", "out.json", "--html", "out.html")
MADE = ("out.json", "out.html")


def head_of(model: str, *more: str) -> Command:
    """The output layer alone."""
    return Command(("audit", model, "--section", "head", *more, *REPORTS), MADE)


def audit_of(model: str) -> Command:
    """Everything that a running model shows."""
    argv = ("audit", model, "--text", "text.txt", "--tokens", "64", "--no-argmaxable")
    sections = ("--section", "output", "--section", "attention", "--section", "memory")
    small = ("--attention", "context=32", "--attention", "num_windows=1")
    small += ("--attention", "sizes=1,5")
    return Command((*argv, *sections, *small, *REPORTS), MADE)


def evaluation_of(model: str) -> Command:
    argv = ("evaluate", model, "--text", "text.txt", "--context", "16", "--tokens", "128")
    return Command((*argv, "--json", "out.json"), ("out.json",))


OF_A_MODEL = {
    "head": head_of("model"),
    "evaluate": evaluation_of("model"),
    "audit": audit_of("model"),
}
BAD = REFUSED

TABLE = (
    *rows(CONFIG, "vocab_size", dict.fromkeys(["0", "-1", "1000000000000", "null", '"96"'], BAD)),
    *rows(CONFIG, "vocab_size", ["95", "97", "1", "1e308", "NaN", "true", "[96]"]),
    *rows(CONFIG, "vocab_size", dict.fromkeys(["0", "95", "97", "1000000000000"], BAD), "evaluate"),
    *rows(CONFIG, "hidden_size", dict.fromkeys(["0", "-16", "15", "1000000000"], BAD), "evaluate"),
    *rows(CONFIG, "hidden_size", ['"16"', "null", "16.5", "9223372036854775807"], "evaluate"),
    *rows(CONFIG, "hidden_size", ["17", "18446744073709551616"]),
    *rows(
        CONFIG, "intermediate_size", dict.fromkeys(["0", "31", "1000000000000"], BAD), "evaluate"
    ),
    *rows(
        CONFIG,
        "num_hidden_layers",
        dict.fromkeys(["0", "1", "3", "1000000", "1000000000000", "-1", '"2"'], BAD),
        "evaluate",
    ),
    *rows(CONFIG, "num_hidden_layers", ["1000000000000", "-1"]),
    *rows(CONFIG, "num_attention_heads", dict.fromkeys(["0", "3", "1000000000"], BAD), "evaluate"),
    *rows(CONFIG, "num_attention_heads", ["-2", "1"], "evaluate"),
    *rows(CONFIG, "num_key_value_heads", dict.fromkeys(["0", "3", "1000000000"], BAD), "evaluate"),
    *rows(CONFIG, "head_dim", dict.fromkeys(["0", "7", "1000000000"], BAD), "evaluate"),
    *rows(
        CONFIG,
        "max_position_embeddings",
        ["0", "-1", "1", "1000000000000", '"64"', "null", "1e308"],
        "evaluate",
    ),
    *rows(CONFIG, "max_position_embeddings", ["2", "17"], "audit"),
    *rows(CONFIG, "rms_norm_eps", ["NaN", "-1", "1e308", '"x"', "null"], "evaluate"),
    *rows(CONFIG, "hidden_act", ['"nonsense"', "7", "null", '"__import__"'], "evaluate"),
    *rows(
        CONFIG,
        "model_type",
        ['"nonsense"', '"bert"', '"gpt2"', '"t5"', '"vit"', '"mamba"', '""', "null", "7"],
        "evaluate",
    ),
    *rows(CONFIG, "model_type", ['["llama"]', r'"llama\n\u001b[31m"', '"wideneck"', '"clip"']),
    *rows(CONFIG, "architectures", ["[]", '["NoSuch"]', "7", '["BertModel"]', "null"], "evaluate"),
    *rows(CONFIG, "architectures", ["7", "[7]", r'["\u001b]0;x\u0007"]', '["T5Model"]']),
    *rows(CONFIG, "dtype", ['"float7"', "7", '"int8"', '"complex64"', '"__class__"'], "evaluate"),
    *rows(CONFIG, "dtype", ['"float7"', "7", "[]"]),
    *rows(CONFIG, "tie_word_embeddings", ["true", '"yes"', "null", "7"]),
    *rows(CONFIG, "tie_word_embeddings", ["true", '"yes"'], "evaluate"),
    *rows(
        CONFIG,
        "quantization_config",
        [
            '{"quant_method":"nonsense"}',
            '{"quant_method":"bitsandbytes","load_in_8bit":true}',
            '{"quant_method":"gptq","bits":4}',
            "[]",
            '"x"',
            "{}",
        ],
        "evaluate",
    ),
    *rows(CONFIG, "quantization_config", ["[]", '"x"', '{"quant_method":7}']),
    *rows(
        CONFIG,
        "attn_implementation",
        {'"kernels-community/flash-attn"': EITHER, '"flash_attention_2"': EITHER, "7": EITHER},
        "evaluate",
    ),
    *rows(
        CONFIG,
        "_attn_implementation",
        ['"kernels-community/flash-attn"', '"flash_attention_2"', '"nonsense"'],
        "evaluate",
    ),
    *rows(CONFIG, "pad_token_id", ["1000000000", "-5", '"x"', "96"], "evaluate"),
    *rows(CONFIG, "bos_token_id", ["1000000000000", "-5", "[[]]"], "evaluate"),
    *rows(CONFIG, "is_encoder_decoder", ["true", '"x"'], "evaluate"),
    *rows(CONFIG, "is_encoder_decoder", ["true"]),
    *rows(CONFIG, "text_config", ["{}", "7", "[]", '{"vocab_size":7}', '{"model_type":"t5"}']),
    *rows(CONFIG, "text_config", ["{}", "7"], "evaluate"),
    *rows(CONFIG, "layer_types", ['["x","y"]', "7", "[]", '["full_attention"]'], "evaluate"),
    *rows(
        CONFIG,
        "rope_parameters",
        [
            "{}",
            "7",
            '{"rope_type":"nonsense","rope_theta":1e4}',
            '{"rope_type":"yarn","factor":0,"rope_theta":1e4}',
            '{"rope_type":"yarn","factor":NaN,"rope_theta":1e4}',
            '{"rope_type":"dynamic","factor":-1,"rope_theta":1e4}',
            '{"rope_type":"longrope","short_factor":[],"long_factor":[],"factor":2,"rope_theta":1e4}',
            '{"rope_type":"default","rope_theta":0}',
            '{"rope_type":"default","rope_theta":NaN}',
            '{"rope_type":"default","rope_theta":-1}',
            '{"rope_type":"default","rope_theta":"x"}',
        ],
        "evaluate",
    ),
    *rows(CONFIG, "attention_dropout", ['"x"', "NaN", "7"], "evaluate"),
    *rows(CONFIG, "attention_bias", {"true": BAD}, "evaluate"),
    *rows(CONFIG, "mlp_bias", {"true": BAD}, "evaluate"),
    *rows(CONFIG, "initializer_range", ["NaN", '"x"', "-1"], "evaluate"),
    *rows(CONFIG, "num_labels", ["1000000000", "-1", '"x"'], "evaluate"),
    *rows(CONFIG, "num_labels", ["1000000000", "1000000000000"]),
    *rows(CONFIG, "pretraining_tp", ["0", "1000000000"], "evaluate"),
    *rows(CONFIG, "output_hidden_states", ["true", '"x"'], "audit"),
    *rows(CONFIG, "use_cache", ["false", '"x"'], "audit"),
    *rows(CONFIG, "return_dict", ["false", '"x"'], "evaluate"),
    *rows(CONFIG, "transformers_version", ["7", '"99"', "null"], "evaluate"),
    *rows(CONFIG, "per_layer_config", ["7", '{"0":{}}'], "evaluate"),
    *rows(CONFIG, "id2label", ["7", '{"x":"y"}', "[]"], "evaluate"),
    Mutation(
        "auto-map",
        all_of(
            literal(CONFIG, "auto_map", '{"AutoConfig":"evil.C","AutoModelForCausalLM":"evil.M"}'),
            literal(CONFIG, "model_type", '"evil"'),
            content("model/evil.py", b"open('canary', 'w')\n"),
        ),
        REFUSED,
        ("evaluate",),
    ),
    Mutation(
        "auto-map-known-type",
        all_of(
            literal(CONFIG, "auto_map", '{"AutoConfig":"evil.C","AutoModelForCausalLM":"evil.M"}'),
            content("model/evil.py", b"open('canary', 'w')\n"),
        ),
        EITHER,
        ("evaluate",),
    ),
    Mutation("key-with-escape", literal(CONFIG, "\x1b[31m\nx", "7"), MEASURED),
    Mutation("key-with-escape", literal(CONFIG, "\x1b[31m\nx", "7"), EITHER, ("evaluate",)),
    Mutation("no-model-type", without(CONFIG, "model_type"), EITHER),
    Mutation("no-model-type", without(CONFIG, "model_type"), REFUSED, ("evaluate",)),
    Mutation("no-vocab-size", without(CONFIG, "vocab_size"), EITHER),
    Mutation("no-layers", without(CONFIG, "num_hidden_layers"), EITHER, ("evaluate",)),
    Mutation("many-keys", changed_json(CONFIG, lambda c: c | {str(i): i for i in range(50_000)})),
    Mutation("long-string", changed_json(CONFIG, lambda c: c | {"x": "y" * 10_000_000})),
    *of_any_file(CONFIG, node=EITHER, gone=EITHER),
    *of_any_file(CONFIG, "evaluate"),
    *of_any_json(CONFIG),
    *of_any_json(CONFIG, "evaluate"),
    bom(CONFIG, expects=EITHER),
    bom(CONFIG, "evaluate", expects=EITHER),
)

SCALES = (
    *rows(
        CONFIG,
        "logit_scale",
        dict.fromkeys(["NaN", "Infinity", "-Infinity", '"x"', "null", "[]", "1e999"], BAD),
        "audit",
    ),
    *rows(CONFIG, "logit_scale", ["0", "-1", "1e308", "1e-320", "true"], "audit"),
    *rows(CONFIG, "logit_scale", ["NaN", '"x"', "0", "1e308"]),
)
CAPS = (
    *rows(
        CONFIG,
        "final_logit_softcapping",
        dict.fromkeys(["NaN", '"x"', "[]", "-Infinity"], BAD),
        "audit",
    ),
    *rows(CONFIG, "final_logit_softcapping", ["0", "-1", "1e308", "1e-300", "null"], "audit"),
    *rows(CONFIG, "final_logit_softcapping", ["NaN", '"x"', "0"]),
    *rows(CONFIG, "sliding_window", ["0", "-1", "1", '"x"', "1000000000000"], "audit"),
    *rows(CONFIG, "query_pre_attn_scalar", ["0", "-1", '"x"', "NaN"], "audit"),
)

CONFIGS = (
    Format("config", "llama", OF_A_MODEL, (CONFIG, "model/generation_config.json"), TABLE),
    Format("logit-scale", "cohere", OF_A_MODEL, (CONFIG,), SCALES),
    Format("softcap", "gemma2", OF_A_MODEL, (CONFIG,), CAPS),
)
