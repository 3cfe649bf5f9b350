"""What was rebuilt from a paper's prose says so wherever it is named.

Four displays were not read whole: the bracket of theorem 1, theorem 1.2 and theorem 2 of Mudarisov
et al. 2025, and the second half of Equation 5 of Wan et al. 2023.  Ours are DERIVED.  Everything
that names one of them, in code, report and documents, has the word beside it.
"""

import ast
import io
import re
import tokenize
import tomllib
from pathlib import Path

import pytest

from wideneck.lab.attention.reproduction import Reproduction as Attention
from wideneck.lab.histalign.reproduction import Reproduction as HistAlign
from wideneck.report.fields import definitions
from wideneck.report.report import Report

ROOT = Path(__file__).parents[2]
NAMED = re.compile(
    r"theorem\s+(1(\.[12])?|2)(?![\d.]*\d)|main\s+term|paper.s\s+form|thm\s+[12]\b"
    r"|(\bEq\.|equation|eqs?\.)\s+(4\s+and\s+)?5\b",
    re.IGNORECASE,
)
OTHERS = re.compile("Merity et al")
"""Whose equation 5 is another."""
DERIVED = re.compile("derived", re.IGNORECASE)
ENDINGS = (".py", ".toml", ".j2", ".md")


def files():
    """All that name one of the forms somewhere."""
    found = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    found += [path for path in (ROOT / "src").rglob("*") if path.suffix in ENDINGS]
    return sorted(path for path in found if NAMED.search(path.read_text()))


def pieces(path):
    """What a reader sees at once: a statement, a comment, a paragraph, a line of a table."""
    text = path.read_text()
    if path.suffix == ".py":
        return [*statements(ast.parse(text), text), *comments(text)]
    if path.suffix == ".md":
        return paragraphs(text)
    if path.suffix == ".toml":
        return [text, *strings(tomllib.loads(text).get("prose"))]
    return text.splitlines()


def naming(path):
    """Pieces that name one of the forms."""
    return [p for p in pieces(path) if NAMED.search(p) and not OTHERS.search(p)]


def statements(tree, text):
    """Those without others inside; docstrings and fields of a dataclass are among them."""
    lines = text.splitlines()
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and not hasattr(node, "body"):
            yield "\n".join(lines[node.lineno - 1 : node.end_lineno])


def strings(content):
    """All in what a TOML file holds."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict | list):
        for part in content.values() if isinstance(content, dict) else content:
            yield from strings(part)


def comments(text):
    """Comments of neighbouring lines together."""
    found, last = [], -1
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            line = token.start[0]
            before = found.pop() if line == last + 1 else ""
            found.append(f"{before} {token.string}")
            last = line
    return found


def paragraphs(text):
    """Blocks of code whole; else paragraphs, items and lines of a table."""
    for number, part in enumerate(re.split(r"^```.*$", text, flags=re.MULTILINE)):
        yield from [part] if number % 2 else re.split(r"\n\s*\n|\n(?=\s*(?:[-|*]|\d+\.) ?)", part)


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_derived_says_so_where_it_is_named(path):
    unsaid = [p for p in naming(path) if not DERIVED.search(p)]
    assert not unsaid, unsaid


def test_the_forms_are_named_in_code_report_and_documents():
    """Else the test above would pass for want of anything to look at."""
    assert {path.name for path in files() if naming(path)} >= {
        *("distance.py", "expectation.py", "separability.py", "critical.py", "results.py"),
        *("claims.py", "figures.py", "attention_charts.py", "attention_numbers.py", "ranking.py"),
        *("config.py", "objectives.py", "reproduction.py"),
        *("attention.toml", "histalign.toml"),
        *("attention.md", "memory.md", "reproduce.md", "report.md"),
    }


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (
            Report,
            (
                *("by_size[].bound", "by_size[].expected_paper", "by_length[].bound"),
                *("by_size[].separability_lower", "by_size[].separability_upper"),
                *("by_length[].expected_paper", "critical[].expectation"),
            ),
        ),
        (Attention, ("claims[].derived", "numbers[].derived", "claims[].verdict.words")),
        (HistAlign, ("objectives",)),
    ],
)
def test_the_fields_of_json_say_that_they_are_derived(kind, fields):
    found = definitions(kind)
    for field in fields:
        name = f"attention.{field}" if kind is Report else field
        said = " ".join(str(found[name].get(key, "")) for key in ("definition", "caution"))
        assert DERIVED.search(said) or "described, not judged" in said, name


@pytest.mark.parametrize(
    "text",
    ["as theorem 1 has it", "Theorem 1.2 of it", "in the paper's form", "(Eq. 5, summed)"],
)
def test_a_form_that_is_named_alone_is_found(text):
    assert NAMED.search(text)
    assert not NAMED.search("theorem 5.3, theorem 12, equation 50, Eq. 4, Corollary 1")
