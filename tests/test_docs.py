"""What the documents say is what the code does."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from tiny import tiny_model
from tiny_text import character_tokenizer, write_text
from wideneck.attention.config import NORMALIZERS
from wideneck.audits.attention.settings import AttentionSettings
from wideneck.commands.heads import rows
from wideneck.commands.options import attention_settings
from wideneck.report.fields import definitions
from wideneck.report.report import Report
from wideneck.report.schema import page
from wideneck.report.series import SeriesReport

ROOT = Path(__file__).parents[1]
HEADS_PAGE = ROOT / "docs" / "heads.md"
COST_PAGE = ROOT / "docs" / "cost.md"
MEMORY_PAGE = ROOT / "docs" / "memory.md"
ATTENTION_PAGE = ROOT / "docs" / "attention.md"


def test_the_page_of_fields_is_the_code_s():
    """If this fails: python -m wideneck.report.schema > docs/report.md."""
    assert (ROOT / "docs" / "report.md").read_text() == page()


def test_every_field_has_a_definition():
    for kind in (Report, SeriesReport):
        for path, entry in definitions(kind).items():
            assert entry.get("definition"), path


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    torch.manual_seed(0)
    tiny_model("gpt2").save_pretrained(tmp_path / "gpt2")
    character_tokenizer().save_pretrained(tmp_path / "gpt2")
    write_text(tmp_path / "novel.txt")
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks:  # each goes on from those before it
        exec(block, names)
    assert (tmp_path / "gpt2.html").exists()
    assert (tmp_path / "gpt2-moss" / "config.json").exists()
    assert "gpt2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("page", "saved"),
    [
        (HEADS_PAGE, "gpt2-moss"),
        (ATTENTION_PAGE, "gpt2-ssmax"),
        (MEMORY_PAGE, "gpt2-memory"),
        (COST_PAGE, "gpt2-plain"),
    ],
)
def test_the_python_of_a_page_runs(tmp_path, monkeypatch, page, saved):
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    torch.manual_seed(0)
    tiny_model("gpt2").save_pretrained(tmp_path / "gpt2")
    character_tokenizer().save_pretrained(tmp_path / "gpt2")
    write_text(tmp_path / "novel.txt")
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks:  # each goes on from those before it
        exec(block, names)
    assert (tmp_path / saved / "config.json").exists()


def test_the_table_of_normalizers_is_the_registry_s():
    page = ATTENTION_PAGE.read_text().splitlines()
    start = page.index("|---|---|---|---|---|---|---|---|") + 1
    for place, (name, config) in enumerate(NORMALIZERS.items(), start):
        flags = (config.sums_to_one, config.may_be_sparse, config.may_abstain)
        cells = [
            f"`{name}`",
            f"`{config.formula}`",
            *("yes" if flag else "no" for flag in flags),
            config.jacobian,
            "fused" if config.fused else "dense",
            config.paper,
        ]
        assert page[place] == "| " + " | ".join(cells) + " |"
    assert not page[place + 1].startswith("|")


def test_the_table_of_attention_settings_is_the_code_s():
    """Every setting with its default, in words that the command line takes."""
    page = ATTENTION_PAGE.read_text()
    table = page.partition("| setting | default | what it is |")[2].partition("\n\n")[0]
    pairs = re.findall(r"^\| `(\w+)` \| (\S+) \|", table, re.MULTILINE)
    assert [name for name, _ in pairs] == [field.name for field in fields(AttentionSettings)]
    assert attention_settings([f"{name}={default}" for name, default in pairs]) == (
        AttentionSettings()
    )


def test_the_table_of_heads_is_the_registry_s():
    keys = ("name", "formula", "parameters_added_formula", "rank_bound_formula", "cost", "paper")
    page = HEADS_PAGE.read_text().splitlines()
    start = page.index("|---|---|---|---|---|---|") + 1
    for place, head in enumerate(rows(576, 49152), start):
        assert (
            page[place]
            == "| " + " | ".join(f"`{head[k]}`" if k in keys[:2] else head[k] for k in keys) + " |"
        )
    assert not page[place + 1].startswith("|")


def test_the_links_of_the_documents_lead_somewhere():
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(
            r'\]\(([^)#:]+)\)|(?:src|srcset)="([^":]+)"', document.read_text()
        ):
            path = target[0] or target[1]
            assert (document.parent / path).exists(), f"{document.name}: {path}"
