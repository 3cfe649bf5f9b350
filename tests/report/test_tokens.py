# ruff: noqa: RUF001
"""Lists of tokens: read as text, cut in the terminal, whole on the page."""

import dataclasses
import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from report.examples import head_audit, report
from report.html_tree import read
from wideneck.audits.rows import Undertrained
from wideneck.audits.tokens.spelling import LETTERS
from wideneck.report.terminal import GROUPS, LINES, show
from wideneck.report.token_text import reader

BYTES = {byte: letter for letter, byte in LETTERS.items()}
HEAD = head_audit()


def spelt(text):
    """As a byte-level tokenizer spells a text."""
    data = text if isinstance(text, bytes) else text.encode()
    return "".join(BYTES[byte] for byte in data)


def test_every_byte_has_a_letter_as_in_gpt2():
    assert sorted(LETTERS.values()) == list(range(256))
    assert [BYTES[b] for b in b" \n\t\x00\x7fA!~"] == ["Ġ", "Ċ", "ĉ", "Ā", "ġ", "A", "!", "~"]
    assert spelt("ส") == "à¸ª"
    assert BYTES[0xAD] == "Ń"


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (" the", "␣the"),
        ("สวัส", "สวัส"),
        ("مرح", "مرح"),
        (" é", "␣é"),
        ("\n\n\t", "\n\n\t"),
        ("    x", "␣␣␣␣x"),
        ("ัส", "\N{DOTTED CIRCLE}ัส"),
        ("ส".encode()[:2], r"\xe0\xb8"),
        ("中".encode()[1:] + b" a", r"\xb8\xad␣a"),
        ("<|im_start|>", "<|im_start|>"),
    ],
)
def test_bytes_are_read_as_text_and_what_is_none_as_escapes(token, expected):
    strings = [spelt(" the"), spelt("ส"), spelt(" и"), spelt(token)]
    assert reader(strings)(strings[-1]) == expected


def test_a_special_token_that_no_letters_spell_stays_as_it_is():
    read_one = reader([spelt(" the"), spelt("Ж"), "<｜begin▁of▁sentence｜>"])
    assert read_one("<｜begin▁of▁sentence｜>") == "<｜begin▁of▁sentence｜>"
    assert read_one(spelt("Ж")) == "Ж"


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("▁the", "␣the"),
        ("▁▁", "␣␣"),
        ("é", "é"),
        ("ł", "ł"),
        ("Ġ", "Ġ"),
        ("<0x0A>", "\n"),
        ("<0xE0>", r"\xe0"),
        ("<unk>", "<unk>"),
        ("中国", "中国"),
    ],
)
def test_pieces_are_read_as_they_are_and_bytes_as_bytes(token, expected):
    strings = ["▁of", "▁é", "語", "<0xE1>", token]
    assert reader(strings)(token) == expected


def with_tokens(**lists):
    rows = dataclasses.replace(HEAD.rows, **lists)
    return report(dataclasses.replace(HEAD, rows=rows, argmaxable=None), None)


def printed(found, width=80):
    stream = io.StringIO()
    show(found, Console(file=stream, width=width))
    return stream.getvalue()


def of_a_real_vocabulary():
    """Thai, Arabic and spaces as a byte-level vocabulary of 151,936 has them, in equal rows."""
    words = [" " * n for n in range(1, 60)] + ["สวัสดี", "ภาษาไทย", "مرحبا", "الشرق الأوسط"] * 40
    texts = [spelt(word + str(i)) for i, word in enumerate(words * 8)]
    tokens = [Undertrained(token=i, string=text) for i, text in enumerate(texts)]
    groups = [tokens[i : i + 5] for i in range(0, 500, 5)]
    return with_tokens(duplicates=groups, undertrained=tokens, beyond_tokenizer=None)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_terminal_prints_a_handful_of_lines_with_the_count_of_the_rest(width):
    text = printed(of_a_real_vocabulary(), width)
    start = text.index("equal rows:")
    lists = text[start : text.index("Note:", start)].split("\n\n")
    assert len([part for part in lists if part.strip()]) == 3
    for part, total in zip(lists, (100, 1752), strict=False):
        title, *lines = part.strip("\n").split("\n")
        body = " ".join(" ".join(lines).split())
        assert len(lines) <= LINES
        assert max(map(cell_len, lines)) <= width
        more = int(body.rsplit(", and ", 1)[1].removesuffix(" more").replace(",", ""))
        shown = body.rsplit(", and ", 1)[0].count(", ") + 1
        assert 0 < shown <= GROUPS
        assert shown + more == total, title
    assert "␣0 (0) = ␣␣1 (1)" in text
    assert "Ġ" not in text


def test_the_page_has_every_token_as_plain_text_and_json_its_own_spelling():
    found = of_a_real_vocabulary()
    page, numbers = found.to_html_text(), found.to_dict()
    text = read(page).text
    assert all(f" ({i})" in text for i in (0, 999, 1751))
    assert text.count("สวัสดี") > 300
    assert "1,752 tokens</summary>" in page
    assert "500 tokens in 100 groups</summary>" in page
    assert page.count("<details open>") == 1  # the few suspects of the example
    assert numbers["head"]["rows"]["undertrained"][-1]["string"] == spelt("الشرق الأوسط1751")


def test_a_short_list_stands_open():
    tokens = [Undertrained(token=i, string=f"w{i}") for i in range(3)]
    page = with_tokens(undertrained=tokens, duplicates=[]).to_html_text()
    assert "<details open><summary>3 tokens</summary>" in page
