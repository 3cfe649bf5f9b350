"""config.json of a model: sizes that cannot be, other kinds, code, kernels, JSON that is none."""

from bench.fuzz.case import EITHER, MEASURED, Command, Format, head, loosely, whole
from bench.fuzz.edits import (
    all_of,
    bom,
    changed_json,
    content,
    literal,
    of_any_file,
    of_any_json,
    values,
    without,
)

CONFIG = "model/config.json"
REPORTS = ("--json", "out.json", "--html", "out.html")
MADE = ("out.json", "out.html")


def head_of(model: str, *, needs_good: bool = True) -> Command:
    """The output layer alone."""
    return Command(("audit", model, "--section", "head", *REPORTS), MADE, (), needs_good)


def audit_of(model: str) -> Command:
    """Everything that a running model shows."""
    argv = ("audit", model, "--text", "text.txt", "--tokens", "64", "--no-argmaxable")
    sections = ("--section", "output", "--section", "attention", "--section", "memory")
    small = ("--attention", "context=32", "--attention", "num_windows=1")
    small += ("--attention", "sizes=1,5")
    return Command((*argv, *sections, *small, *REPORTS), MADE)


def evaluation_of(model: str, text: str = "text.txt", *, needs_good: bool = True) -> Command:
    argv = ("evaluate", model, "--text", text, "--context", "16", "--tokens", "128")
    return Command((*argv, "--json", "out.json"), ("out.json",), (), needs_good)


def commands_of(model: str) -> dict[str, Command]:
    """Every command that reads a model."""
    return {"head": head_of(model), "evaluate": evaluation_of(model), "audit": audit_of(model)}


OF_A_MODEL = commands_of("model")

SIZES = r"""
vocab_size               head      refused  0  -1  1000000000000  null  "96"
vocab_size               head      either   95  97  1  1e308  NaN  true  [96]
vocab_size               evaluate  refused  0  95  97  1000000000000
hidden_size              evaluate  refused  0  -16  15  1000000000
hidden_size              evaluate  either   "16"  null  16.5  9223372036854775807
hidden_size              head      either   17  18446744073709551616
intermediate_size        evaluate  refused  0  31  1000000000000
num_hidden_layers        evaluate  refused  0  1  3  1000000  1000000000000  -1  "2"
num_hidden_layers        head      either   1000000000000  -1
num_attention_heads      evaluate  refused  0  3  1000000000
num_attention_heads      evaluate  either   -2  1
num_key_value_heads      evaluate  refused  0  3  1000000000
head_dim                 evaluate  refused  0  7  1000000000
max_position_embeddings  evaluate  either   0  -1  1  1000000000000  "64"  null  1e308
max_position_embeddings  audit     either   2  17
"""
KINDS = r"""
rms_norm_eps           evaluate  either  NaN  -1  1e308  "x"  null
hidden_act             evaluate  either  "nonsense"  7  null  "__import__"
model_type             evaluate  either  "nonsense"  "bert"  "gpt2"  "t5"  "vit"  "mamba"  ""
  null  7
model_type             head      either  ["llama"]  "llama\n\u001b[31m"  "wideneck"  "clip"
architectures          evaluate  either  []  ["NoSuch"]  7  ["BertModel"]  null
architectures          head      either  7  [7]  ["\u001b]0;x\u0007"]  ["T5Model"]
dtype                  evaluate  either  "float7"  7  "int8"  "complex64"  "__class__"
dtype                  head      either  "float7"  7  []
tie_word_embeddings    head      either  true  "yes"  null  7
tie_word_embeddings    evaluate  either  true  "yes"
quantization_config    evaluate  either  {"quant_method":"nonsense"}
  {"quant_method":"bitsandbytes","load_in_8bit":true}
  {"quant_method":"gptq","bits":4}  []  "x"  {}
quantization_config    head      either  []  "x"  {"quant_method":7}
attn_implementation    evaluate  either
  "kernels-community/flash-attn"  "flash_attention_2"  7
_attn_implementation   evaluate  either
  "kernels-community/flash-attn"  "flash_attention_2"  "nonsense"
pad_token_id           evaluate  either  1000000000  -5  "x"  96
bos_token_id           evaluate  either  1000000000000  -5  [[]]
is_encoder_decoder     evaluate  either  true  "x"
is_encoder_decoder     head      either  true
text_config            head      either  {}  7  []  {"vocab_size":7}  {"model_type":"t5"}
text_config            evaluate  either  {}  7
layer_types            evaluate  either  ["x","y"]  7  []  ["full_attention"]
rope_parameters        evaluate  either  {}  7
  {"rope_type":"nonsense","rope_theta":1e4}
  {"rope_type":"yarn","factor":0,"rope_theta":1e4}
  {"rope_type":"yarn","factor":NaN,"rope_theta":1e4}
  {"rope_type":"dynamic","factor":-1,"rope_theta":1e4}
  {"rope_type":"longrope","short_factor":[],"long_factor":[],"factor":2,"rope_theta":1e4}
  {"rope_type":"default","rope_theta":0}
  {"rope_type":"default","rope_theta":NaN}
  {"rope_type":"default","rope_theta":-1}
  {"rope_type":"default","rope_theta":"x"}
attention_dropout      evaluate  either   "x"  NaN  7
attention_bias         evaluate  refused  true
mlp_bias               evaluate  refused  true
initializer_range      evaluate  either   NaN  "x"  -1
num_labels             evaluate  either   1000000000  -1  "x"
num_labels             head      either   1000000000  1000000000000
pretraining_tp         evaluate  either   0  1000000000
output_hidden_states   audit     either   true  "x"
use_cache              audit     either   false  "x"
return_dict            evaluate  either   false  "x"
transformers_version   evaluate  either   7  "99"  null
per_layer_config       evaluate  either   7  {"0":{}}
id2label               evaluate  either   7  {"x":"y"}  []
"""
EVIL = all_of(
    literal(CONFIG, "auto_map", '{"AutoConfig":"evil.C","AutoModelForCausalLM":"evil.M"}'),
    content("model/evil.py", b"open('canary', 'w')\n"),
)
TABLE = (
    *values(CONFIG, SIZES),
    *values(CONFIG, KINDS),
    *whole("auto-map", all_of(EVIL, literal(CONFIG, "model_type", '"evil"'))),
    *whole("auto-map-known-type", EVIL, EITHER),
    *head("key-with-escape", literal(CONFIG, "\x1b[31m\nx", "7"), MEASURED),
    *whole("key-with-escape", literal(CONFIG, "\x1b[31m\nx", "7"), EITHER),
    *loosely("no-model-type", without(CONFIG, "model_type")),
    *head("no-vocab-size", without(CONFIG, "vocab_size"), EITHER),
    *whole("no-layers", without(CONFIG, "num_hidden_layers"), EITHER),
    *head(
        "many-keys", changed_json(CONFIG, lambda c: c | {str(i): i for i in range(50_000)}), EITHER
    ),
    *head("long-string", changed_json(CONFIG, lambda c: c | {"x": "y" * 10_000_000}), EITHER),
    *of_any_file(CONFIG, "head", node=EITHER, gone=EITHER),
    *of_any_file(CONFIG, "evaluate"),
    *of_any_json(CONFIG, "head"),
    *of_any_json(CONFIG, "evaluate"),
    bom(CONFIG, "head"),
    bom(CONFIG, "evaluate"),
)
SCALES = r"""
logit_scale  audit  refused  NaN  Infinity  -Infinity  "x"  null  []  1e999
logit_scale  audit  either   0  -1  1e308  1e-320  true
logit_scale  head   either   NaN  "x"  0  1e308
"""
CAPS = r"""
final_logit_softcapping  audit  refused  NaN  "x"  []  -Infinity
final_logit_softcapping  audit  either   0  -1  1e308  1e-300  null
final_logit_softcapping  head   either   NaN  "x"  0
sliding_window           audit  either   0  -1  1  "x"  1000000000000
query_pre_attn_scalar    audit  either   0  -1  "x"  NaN
"""

CONFIGS = (
    Format("config", "llama", OF_A_MODEL, (CONFIG, "model/generation_config.json"), TABLE),
    Format("logit-scale", "cohere", OF_A_MODEL, (CONFIG,), values(CONFIG, SCALES)),
    Format("softcap", "gemma2", OF_A_MODEL, (CONFIG,), values(CONFIG, CAPS)),
)
