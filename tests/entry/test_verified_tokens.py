"""Tokens are asked for in an audit: who loads the model, what is refused, what the report says."""

import io

import pytest
import torch
import transformers as tr
from rich.console import Console
from typer.testing import CliRunner

import wideneck as wn
from repeating import SEEN, UNSEEN, repeater
from tiny_text import CHARACTERS, character_tokenizer, write_text
from wideneck.cli import app
from wideneck.errors import WideneckError
from wideneck.report.terminal import show


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repeater")
    repeater().save_pretrained(folder)
    character_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def report(folder):
    return wn.audit(folder, sections="head", verify_tokens=6, argmaxable=False)


def test_the_head_section_alone_loads_the_model_and_asks_it(report):
    found = report.head.verified
    assert found.num_tokens == len(found.tokens) == 6
    first = {token.string: token for token in found.tokens[:2]}
    assert set(first) == set(UNSEEN), "the input rows of what was never read are the shortest"
    assert {token.label for token in first.values()} == {"strongly verified"}
    assert found.num_found == 2
    assert found.order == "input norm"
    assert report.provenance.compute_dtype == "float32"
    assert "verify tokens" in report.provenance.seconds
    assert report.provenance.text is None


def test_the_report_shows_who_was_asked_in_all_three_faces(report):
    out = io.StringIO()
    show(report, Console(file=out, width=100))
    faces = [report.to_json_text(), report.to_html_text(), out.getvalue()]
    for face in faces:
        assert "strongly verified" in " ".join(face.split())
    assert "Not said when asked for" in faces[1]
    assert report.to_dict()["head"]["verified"]["tokens"][0]["prob"] < 0.001


def test_with_a_text_the_other_sections_measure_as_without(folder, tmp_path):
    text = write_text(tmp_path / "text.txt")
    options = {"num_tokens": 64, "argmaxable": False}
    asked = wn.audit(folder, text, verify_tokens=2, **options)
    plain = wn.audit(folder, text, **options)
    assert asked.head.verified.num_tokens == 2
    assert plain.head.verified is None
    assert asked.output == plain.output
    assert asked.head.rows.beyond_tokenizer == plain.head.rows.beyond_tokenizer


def test_undertrained_rows_that_the_model_does_not_say_have_both_kinds_of_evidence(folder):
    model = tr.AutoModelForCausalLM.from_pretrained(folder)
    unseen = [CHARACTERS.index(c) for c in UNSEEN]
    with torch.no_grad():
        weight = model.get_output_embeddings().weight
        weight[unseen[0]] = weight[unseen[1]]
        model.get_input_embeddings().weight[CHARACTERS.index(SEEN[0])] *= 1e-3
    found = wn.audit(
        model,
        sections="head",
        tokenizer=character_tokenizer(),
        verify_tokens=3,
        argmaxable=False,
    )
    evidence = {row.token: row.evidence for row in found.head.rows.undertrained}
    assert evidence == dict.fromkeys(unseen, "geometry and prompt")
    plain = wn.audit(
        model, sections="head", tokenizer=character_tokenizer(), argmaxable=False
    ).head.rows.undertrained
    assert {row.evidence for row in plain} == {"geometry"}


def test_special_tokens_and_rows_without_a_token_are_not_asked_for(folder):
    found = wn.audit(folder, sections="head", verify_tokens=1000, argmaxable=False).head.verified
    special = character_tokenizer().all_special_ids
    assert special
    assert {token.token for token in found.tokens} == set(range(96)) - set(special)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"verify_tokens": 0}, "At least one token is verified; 0"),
        ({"verify_tokens": 5, "sections": "output"}, "add 'head'"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_read(options, said):
    with pytest.raises(WideneckError, match=said):
        wn.audit("nothing/there", **options)


def test_a_head_without_a_model_is_refused_in_one_sentence(folder, tmp_path):
    alone = tmp_path / "model.safetensors"
    alone.write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(
        WideneckError, match=r"To verify tokens the model has to run: .*config.json"
    ):
        wn.audit(alone, sections="head", verify_tokens=2)


def test_the_command_line_hands_the_number_on(folder):
    arguments = ["audit", str(folder), "--section", "head", "--no-argmaxable"]
    done = CliRunner().invoke(app, [*arguments, "--verify-tokens", "2"])
    assert done.exit_code == 0, done.output
    assert "of 2 asked for" in " ".join(done.output.split())
    series = CliRunner().invoke(app, ["audit", "--series", "a", "b", "--verify-tokens", "2"])
    assert series.exit_code != 0
