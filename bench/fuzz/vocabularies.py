"""tokenizer.json and what lies beside it."""

import json
from pathlib import Path
from random import Random
from typing import Any

from bench.fuzz.case import EITHER, MEASURED, REFUSED, Change, Format, Mutation
from bench.fuzz.configs import OF_A_MODEL
from bench.fuzz.edits import (
    bom,
    changed_json,
    content,
    literal,
    of_any_file,
    of_any_json,
    rows,
    without,
)

FILE = "model/tokenizer.json"
CONFIG = "model/tokenizer_config.json"
BAD = REFUSED
TEXT = "evaluate"


def _vocabulary(how) -> Change:
    def change(value: Any) -> None:
        vocabulary = value["model"]["vocab"]
        new = how(vocabulary)
        if new is not None:
            value["model"]["vocab"] = new

    return changed_json(FILE, change)


def _swap(old: str, new: str) -> Change:
    return _vocabulary(lambda v: {new if k == old else k: i for k, i in v.items()})


def _evil(folder: Path, draw: Random) -> None:
    path = folder / CONFIG
    value = json.loads(path.read_text())
    value |= {"auto_map": {"AutoTokenizer": ["evil.T", None]}, "tokenizer_class": "T"}
    path.write_text(json.dumps(value))
    (folder / "model/evil.py").write_text("open('canary', 'w')\n")


def both(name: str, change: Change, expects: str = EITHER, head: str = EITHER) -> list[Mutation]:
    return [Mutation(name, change, head), Mutation(name, change, expects, (TEXT,))]


REGEX = '{"type":"Split","pattern":{"Regex":"%s"},"behavior":"Isolated","invert":false}'
ADDED = '{"id":%s,"content":"%s","single_word":false,"lstrip":false,"rstrip":false,'
ADDED += '"normalized":false,"special":true}'

TABLE = (
    *rows(FILE, "model.type", ['"nonsense"', "7", "null", '"WordPiece"', '"Unigram"'], TEXT),
    *rows(FILE, "model.type", ['"nonsense"', '"Unigram"']),
    *rows(FILE, "model.vocab", ["{}", "[]", "null", '{"a":0}', '{"a":"b"}'], TEXT),
    *rows(FILE, "model.vocab", ["{}", "[]", '{"a":4294967295}', '{"a":1000000000}', '{"a":-1}']),
    *rows(
        FILE,
        "model.vocab",
        {'{"a":4294967295,"b":1}': EITHER, '{"a":18446744073709551616}': BAD},
        TEXT,
    ),
    *rows(FILE, "model.vocab", ['{"a":1000000000,"<unk>":3}'], TEXT, "head"),
    *rows(FILE, "model.merges", ["[]", "null", '["x y"]', '[["t","zz"]]', '[["t"]]', "7"], TEXT),
    *rows(FILE, "model.unk_token", ["null", '"nonsense"', "7"], TEXT),
    *rows(FILE, "model.dropout", ["0.5", "7", "NaN", "-1"], TEXT),
    *rows(FILE, "model.continuing_subword_prefix", ['"##"', "7"], TEXT),
    *rows(
        FILE,
        "pre_tokenizer",
        [
            "null",
            "7",
            '{"type":"nonsense"}',
            REGEX % "(a+)+$",
            REGEX % "[",
            REGEX % "",
            REGEX % "(?<=",
            '{"type":"Sequence","pretokenizers":[]}',
            '{"type":"Whitespace"}',
            '{"type":"Sequence","pretokenizers":['
            + '{"type":"Digits","individual_digits":true},' * 500
            + '{"type":"Whitespace"}]}',
        ],
        TEXT,
    ),
    *rows(
        FILE,
        "normalizer",
        [
            '{"type":"Replace","pattern":{"String":""},"content":"xx"}',
            '{"type":"Replace","pattern":{"String":"b"},"content":"%s"}' % ("y" * 10_000),
            '{"type":"Replace","pattern":{"Regex":"(b+)+$"},"content":""}',
            '{"type":"Prepend","prepend":"\\u001b[31m"}',
            '{"type":"Strip","strip_left":true,"strip_right":true}',
            '{"type":"nonsense"}',
            '{"type":"Precompiled","precompiled_charsmap":"AAAA"}',
            '{"type":"Precompiled","precompiled_charsmap":""}',
        ],
        TEXT,
    ),
    *rows(
        FILE,
        "post_processor",
        [
            '{"type":"nonsense"}',
            "7",
            '{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x","type_id":0}}],"pair":[],"special_tokens":{}}',
            '{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[],"special_tokens":{"x":{"id":"x","ids":[1000000],"tokens":["x"]}}}',
            '{"type":"TemplateProcessing","single":[],"pair":[],"special_tokens":{}}',
            '{"type":"RobertaProcessing","sep":["x",4000000000],"cls":["y",5],"trim_offsets":true,"add_prefix_space":true}',
        ],
        TEXT,
    ),
    *rows(FILE, "decoder", ['{"type":"nonsense"}', "null", "7"], TEXT),
    *rows(
        FILE,
        "truncation",
        [
            '{"direction":"Right","max_length":0,"strategy":"LongestFirst","stride":0}',
            '{"direction":"Right","max_length":4,"strategy":"LongestFirst","stride":0}',
            '{"direction":"Right","max_length":4,"strategy":"LongestFirst","stride":9}',
        ],
        TEXT,
        "audit",
    ),
    *rows(
        FILE,
        "padding",
        [
            '{"strategy":{"Fixed":100000000},"direction":"Right","pad_to_multiple_of":null,"pad_id":0,"pad_type_id":0,"pad_token":"x"}',
            '{"strategy":{"Fixed":10000},"direction":"Right","pad_to_multiple_of":null,"pad_id":0,"pad_type_id":0,"pad_token":"x"}',
            '{"strategy":"BatchLongest","direction":"Right","pad_to_multiple_of":0,"pad_id":9999999,"pad_type_id":0,"pad_token":"x"}',
        ],
        TEXT,
    ),
    *rows(
        FILE,
        "added_tokens",
        [
            "[]",
            "7",
            "null",
            "[7]",
            "[%s]" % (ADDED % (1000000000, "x")),
            "[%s]" % (ADDED % (3, "")),
            "[%s]" % (ADDED % (-1, "x")),
            "[%s]" % (ADDED % (96, "b")),
            "[%s]" % (ADDED % (4294967295, "line")),
            "[%s]" % (ADDED % (5, r"\u001b[31m\n")),
        ],
        TEXT,
    ),
    *rows(
        FILE,
        "added_tokens",
        ["[%s]" % (ADDED % (1000000000, "x")), "[%s]" % (ADDED % (4294967295, "x"))],
    ),
    *rows(FILE, "version", ["7", '"99"', "null"], TEXT),
    *both("token-escape", _swap("k", "\x1b[31m"), MEASURED, MEASURED),
    *both("token-newline", _swap("k", "\n\r\u2028"), MEASURED, MEASURED),
    *both("token-script", _swap("k", "<script>alert(1)</script>"), MEASURED, MEASURED),
    *both("token-bidi", _swap("k", "\u202e\u2066x"), MEASURED, MEASURED),
    *both("token-nul", _swap("k", "\0"), MEASURED, MEASURED),
    *both("token-long", _swap("k", "x" * 1_000_000)),
    *both("token-surrogate", _swap("k", "\ud800")),
    *both("ids-twice", _vocabulary(lambda v: dict.fromkeys(v, 7))),
    *both("ids-shifted", _vocabulary(lambda v: {k: i + 96 for k, i in v.items()}), BAD),
    *both("ids-one-beyond", _vocabulary(lambda v: v | {"b": 96}), BAD),
    *both("ids-fewer", _vocabulary(lambda v: {k: i for k, i in v.items() if i < 40})),
    *both("100000-tokens", _vocabulary(lambda v: v | {f"x{i}": i for i in range(96, 100_000)})),
    *both("no-model", without(FILE, "model"), BAD),
    *rows(
        CONFIG,
        "tokenizer_class",
        [
            '"nonsense"',
            "7",
            "null",
            '"AutoTokenizer"',
            '"T5Tokenizer"',
            '"BertTokenizer"',
            '"LlamaTokenizer"',
            '"PreTrainedTokenizerBase"',
            '"__import__"',
        ],
        TEXT,
    ),
    *rows(CONFIG, "model_max_length", ["NaN", "0", "-1", "7", '"x"', "1e999"], TEXT),
    *rows(CONFIG, "add_bos_token", ["true", '"x"'], TEXT),
    *rows(
        CONFIG,
        "bos_token",
        ["7", "[]", '{"content":"zz"}', '{"content":7}', r'"\u001b[31m"', "null", '""'],
        TEXT,
    ),
    *rows(
        CONFIG,
        "added_tokens_decoder",
        ['{"x":{}}', '{"1000000000":{"content":"x"}}', "7", '{"3":7}', '{"-1":{"content":"x"}}'],
        TEXT,
    ),
    *rows(
        CONFIG,
        "added_tokens_decoder",
        ['{"1000000000":{"content":"x"}}', '{"4294967295":{"content":"x"}}'],
    ),
    *rows(
        CONFIG,
        "extra_special_tokens",
        ["7", '{"x":7}', '["x"]', '{"vocab_size":"y"}', '{"__class__":"y"}'],
        TEXT,
    ),
    *rows(CONFIG, "chat_template", ["7", r'"{{ cycler.__init__.__globals__ }}"'], TEXT),
    *rows(CONFIG, "name_or_path", ['"org/other"', "7"], TEXT),
    *rows(CONFIG, "padding_side", ['"x"', "7"], TEXT),
    *rows(CONFIG, "clean_up_tokenization_spaces", ['"x"'], TEXT),
    *rows(CONFIG, "fast_tokenizer_files", ["7", '["../x"]', '["tokenizer.99.json"]'], TEXT),
    Mutation("auto-map", _evil, EITHER, ("head", TEXT)),
    Mutation(
        "special-tokens-map",
        content("model/special_tokens_map.json", b'{"bos_token":7}'),
        EITHER,
        (TEXT,),
    ),
    Mutation(
        "special-tokens-map-list", content("model/special_tokens_map.json", b"[]"), EITHER, (TEXT,)
    ),
    Mutation(
        "added-tokens",
        content("model/added_tokens.json", b'{"x":1000000000}'),
        EITHER,
        (TEXT, "head"),
    ),
    Mutation("chat-template", content("model/chat_template.jinja", b"{% for"), EITHER, (TEXT,)),
    Mutation("vocab-json", content("model/vocab.json", b"[]"), EITHER, (TEXT,)),
    Mutation(
        "spiece", content("model/tokenizer.model", b"\x0a\xff\xff\xff\xff\x0f"), EITHER, (TEXT,)
    ),
    bom(FILE, expects=EITHER),
    bom(FILE, TEXT, expects=EITHER),
    *of_any_file(FILE, node=EITHER, gone=EITHER),
    *of_any_file(FILE, TEXT),
    *of_any_json(FILE),
    *of_any_json(FILE, TEXT),
    *of_any_file(CONFIG, TEXT, junk=EITHER, node=EITHER, gone=EITHER),
    *of_any_json(CONFIG, TEXT, expects=EITHER),
    Mutation("truncation-and-head", literal(FILE, "truncation", '{"max_length":1}'), EITHER),
)

TOKENIZERS = (Format("tokenizer", "llama", OF_A_MODEL, (FILE, CONFIG), TABLE),)
