"""tokenizer.json and what lies beside it."""

from collections.abc import Callable
from typing import Any

from bench.fuzz.case import EITHER, MEASURED, Change, Format, Mutation, both, head, loosely, whole
from bench.fuzz.configs import OF_A_MODEL
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

FILE = "model/tokenizer.json"
CONFIG = "model/tokenizer_config.json"
FIVE_HUNDRED = '{"type":"Digits","individual_digits":true},' * 500

MODEL = """
model.type       evaluate       either   "nonsense"  7  null  "WordPiece"  "Unigram"
model.type       head           either   "nonsense"  "Unigram"
model.vocab      evaluate       either   {}  []  null  {"a":0}  {"a":"b"}
model.vocab      head           either   {}  []  {"a":4294967295}  {"a":1000000000}  {"a":-1}
model.vocab      evaluate       either   {"a":4294967295,"b":1}
model.vocab      evaluate       refused  {"a":18446744073709551616}
model.vocab      evaluate,head  either   {"a":1000000000,"<unk>":3}
model.merges     evaluate       either   []  null  ["x y"]  [["t","zz"]]  [["t"]]  7
model.unk_token  evaluate       either   null  "nonsense"  7
model.dropout    evaluate       either   0.5  7  NaN  -1
model.continuing_subword_prefix  evaluate  either  "##"  7
"""
STEPS = r"""
pre_tokenizer   evaluate  either  null  7  {"type":"nonsense"}
  {"type":"Split","pattern":{"Regex":"(a+)+$"},"behavior":"Isolated","invert":false}
  {"type":"Split","pattern":{"Regex":"["},"behavior":"Isolated","invert":false}
  {"type":"Split","pattern":{"Regex":""},"behavior":"Isolated","invert":false}
  {"type":"Split","pattern":{"Regex":"(?<="},"behavior":"Isolated","invert":false}
  {"type":"Sequence","pretokenizers":[]}
  {"type":"Whitespace"}
  {"type":"Sequence","pretokenizers":[FIVE_HUNDRED{"type":"Whitespace"}]}
normalizer      evaluate  either
  {"type":"Replace","pattern":{"String":""},"content":"xx"}
  {"type":"Replace","pattern":{"String":"b"},"content":"TEN_THOUSAND"}
  {"type":"Replace","pattern":{"Regex":"(b+)+$"},"content":""}
  {"type":"Prepend","prepend":"\u001b[31m"}
  {"type":"Strip","strip_left":true,"strip_right":true}
  {"type":"nonsense"}
  {"type":"Precompiled","precompiled_charsmap":"AAAA"}
  {"type":"Precompiled","precompiled_charsmap":""}
post_processor  evaluate  either  {"type":"nonsense"}  7
  {"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x","type_id":0}}],"pair":[],"special_tokens":{}}
  {"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[],"special_tokens":{"x":{"id":"x","ids":[1000000],"tokens":["x"]}}}
  {"type":"TemplateProcessing","single":[],"pair":[],"special_tokens":{}}
  {"type":"RobertaProcessing","sep":["x",4000000000],"cls":["y",5],"trim_offsets":true,"add_prefix_space":true}
decoder         evaluate  either  {"type":"nonsense"}  null  7
truncation      evaluate,audit  either
  {"direction":"Right","max_length":0,"strategy":"LongestFirst","stride":0}
  {"direction":"Right","max_length":4,"strategy":"LongestFirst","stride":0}
  {"direction":"Right","max_length":4,"strategy":"LongestFirst","stride":9}
padding         evaluate  either
  {"strategy":{"Fixed":100000000},"direction":"Right","pad_to_multiple_of":null,"pad_id":0,"pad_type_id":0,"pad_token":"x"}
  {"strategy":{"Fixed":10000},"direction":"Right","pad_to_multiple_of":null,"pad_id":0,"pad_type_id":0,"pad_token":"x"}
  {"strategy":"BatchLongest","direction":"Right","pad_to_multiple_of":0,"pad_id":9999999,"pad_type_id":0,"pad_token":"x"}
""".replace("FIVE_HUNDRED", FIVE_HUNDRED).replace("TEN_THOUSAND", "y" * 10_000)
BESIDE = r"""
tokenizer_class       evaluate  either  "nonsense"  7  null  "AutoTokenizer"  "T5Tokenizer"
  "BertTokenizer"  "LlamaTokenizer"  "PreTrainedTokenizerBase"  "__import__"
model_max_length      evaluate  either  NaN  0  -1  7  "x"  1e999
add_bos_token         evaluate  either  true  "x"
bos_token             evaluate  either  7  []  {"content":"zz"}  {"content":7}  "\u001b[31m"  null
  ""
added_tokens_decoder  evaluate  either  {"x":{}}  {"1000000000":{"content":"x"}}  7  {"3":7}
  {"-1":{"content":"x"}}
added_tokens_decoder  head      either
  {"1000000000":{"content":"x"}}  {"4294967295":{"content":"x"}}
extra_special_tokens  evaluate  either  7  {"x":7}  ["x"]  {"vocab_size":"y"}  {"__class__":"y"}
chat_template         evaluate  either  7  "{{ cycler.__init__.__globals__ }}"
name_or_path          evaluate  either  "org/other"  7
padding_side          evaluate  either  "x"  7
clean_up_tokenization_spaces  evaluate  either  "x"
fast_tokenizer_files  evaluate  either  7  ["../x"]  ["tokenizer.99.json"]
"""


def _added(id: int, content: str) -> str:
    """The text of a list of one token."""
    flags = '"single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true'
    return f'[{{"id":{id},"content":"{content}",{flags}}}]'


HUGE, ESCAPE = _added(1000000000, "x"), _added(5, r"\u001b[31m\n")
ADDED = f"""
added_tokens  evaluate  either  []  7  null  [7]
  {HUGE}
  {_added(3, "")}
  {_added(-1, "x")}
  {_added(96, "b")}
  {_added(4294967295, "line")}
  {ESCAPE}
added_tokens  head      either
  {HUGE}
  {_added(4294967295, "x")}
version       evaluate  either  7  "99"  null
"""


def _vocabulary(how: Callable[[dict[str, int]], dict[str, int]]) -> Change:
    """The ids of the tokens, through a function."""

    def change(value: Any) -> None:
        value["model"]["vocab"] = how(value["model"]["vocab"])

    return changed_json(FILE, change)


def _swap(new: str) -> Change:
    """Another name for the token k."""
    return _vocabulary(lambda v: {new if token == "k" else token: i for token, i in v.items()})


EVIL = {"auto_map": {"AutoTokenizer": ["evil.T", None]}, "tokenizer_class": "T"}
TABLE = (
    *values(FILE, MODEL),
    *values(FILE, STEPS),
    *values(FILE, ADDED),
    *both("token-escape", _swap("\x1b[31m"), MEASURED),
    *both("token-newline", _swap("\n\r\u2028"), MEASURED),
    *both("token-script", _swap("<script>alert(1)</script>"), MEASURED),
    *both("token-bidi", _swap("\u202e\u2066x"), MEASURED),
    *both("token-nul", _swap("\0"), MEASURED),
    *both("token-long", _swap("x" * 1_000_000), EITHER),
    *both("token-surrogate", _swap("\ud800"), EITHER),
    *both("ids-twice", _vocabulary(lambda v: dict.fromkeys(v, 7)), EITHER),
    *loosely("ids-shifted", _vocabulary(lambda v: {k: i + 96 for k, i in v.items()})),
    *loosely("ids-one-beyond", _vocabulary(lambda v: v | {"b": 96})),
    *both("ids-fewer", _vocabulary(lambda v: {k: i for k, i in v.items() if i < 40}), EITHER),
    *both(
        "100000-tokens",
        _vocabulary(lambda v: v | {f"x{i}": i for i in range(96, 100_000)}),
        EITHER,
    ),
    *loosely("no-model", without(FILE, "model")),
    *values(CONFIG, BESIDE),
    Mutation(
        "auto-map",
        all_of(
            changed_json(CONFIG, lambda config: config | EVIL),
            content("model/evil.py", b"open('canary', 'w')\n"),
        ),
        EITHER,
        ("head", "evaluate"),
    ),
    *whole(
        "special-tokens-map",
        content("model/special_tokens_map.json", b'{"bos_token":7}'),
        EITHER,
    ),
    *whole("special-tokens-map-list", content("model/special_tokens_map.json", b"[]"), EITHER),
    Mutation(
        "added-tokens",
        content("model/added_tokens.json", b'{"x":1000000000}'),
        EITHER,
        ("evaluate", "head"),
    ),
    *whole("chat-template", content("model/chat_template.jinja", b"{% for"), EITHER),
    *whole("vocab-json", content("model/vocab.json", b"[]"), EITHER),
    *whole("spiece", content("model/tokenizer.model", b"\x0a\xff\xff\xff\xff\x0f"), EITHER),
    bom(FILE, "head"),
    bom(FILE, "evaluate"),
    *of_any_file(FILE, "head", node=EITHER, gone=EITHER),
    *of_any_file(FILE, "evaluate"),
    *of_any_json(FILE, "head"),
    *of_any_json(FILE, "evaluate"),
    *of_any_file(CONFIG, "evaluate", junk=EITHER, node=EITHER, gone=EITHER),
    *of_any_json(CONFIG, "evaluate", EITHER),
    *head("truncation-and-head", literal(FILE, "truncation", '{"max_length":1}'), EITHER),
)

TOKENIZERS = (Format("tokenizer", "llama", OF_A_MODEL, (FILE, CONFIG), TABLE),)
