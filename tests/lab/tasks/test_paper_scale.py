"""`--scale paper` from the data sets' own formats to the table, with three examples of each."""

import json
from dataclasses import replace

import pytest
import transformers as tr
from tokenizers import processors

from lab.tasks.small_tasks import use_tiny
from lab.tasks.stand_ins import CNN_DM, STORIES, XSUM, write_folder, write_logic_nlg
from wideneck.commands.reproduce import reproduce
from wideneck.errors import WideneckError
from wideneck.lab.tasks import pair_tasks
from wideneck.lab.tasks.encoder_decoder import Shape, from_scratch, trained_tokenizer
from wideneck.lab.tasks.pairs import Pair
from wideneck.lab.tasks.serialized import MARKS

recipe_of = pair_tasks.recipe_of
SHAPE = Shape(hidden_size=16, num_layers=1, num_heads=2, vocab_size=330)


@pytest.fixture
def bart(tmp_path):
    """A pretrained model on disk, of 64 positions."""
    tokenizer = trained_tokenizer([Pair(" ".join(STORIES), "it")], SHAPE.vocab_size)
    model = from_scratch(SHAPE, 64, tokenizer)
    model.save_pretrained(tmp_path / "bart")
    tokenizer.save_pretrained(tmp_path / "bart")
    return str(tmp_path / "bart")


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """The paper's recipes but for the number of steps, and how much is read and written."""
    use_tiny(monkeypatch)

    def some(task, scale):
        found = recipe_of(task, scale)
        assert found.memory["reduction"] == "offset_sum"
        epochs = {"num_steps": None, "num_epochs": 1} if found.num_epochs else {"num_steps": 1}
        return replace(found, **epochs, batch_size=8, target_length=8, num_rank_rows=20)

    monkeypatch.setattr(pair_tasks, "recipe_of", some)


def made(task, data, bart, tmp_path, **given):
    file = tmp_path / "all.json"
    options = {"scale": "paper", "model": bart, "data": str(data), "num_seeds": 1, **given}
    reproduce("histalign", task=task, out=tmp_path / "runs", json=file, **options)
    reproduce("histalign", task=task, out=tmp_path / "runs", **options)  # which prints
    return json.loads(file.read_text())


@pytest.mark.parametrize("rows", [XSUM, CNN_DM], ids=["xsum", "cnn_dailymail"])
def test_summaries(rows, bart, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    found = made("summaries", write_folder(tmp_path / "data", rows), bart, tmp_path)
    assert found["settings"]["pairs"] == {"train": 1, "valid": 1, "test": 1}
    assert {row["objective"] for row in found["rows"]} >= {"cross_entropy", "trime_histalign"}
    assert found["beside"]["reference"]["rougeL"] == 1.0
    printed = capsys.readouterr().out
    assert "paper, XSum, HistAlign" in printed
    assert "35.45" in printed


def test_tables_whose_marks_are_one_token_each(bart, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    folder = write_logic_nlg(tmp_path / "data")
    found = made("data-to-text", folder, bart, tmp_path)
    assert found["settings"]["pairs"] == {"train": 2, "valid": 2, "test": 2}
    assert "true" not in found["beside"]["reference"]  # nothing decides it
    printed = capsys.readouterr().out
    *_, line = (one for one in printed.splitlines() if "paper, LogicNLG, HistAlign" in one)
    assert line.split()[-3:] == ["56.65", "37.56", "26.25"]  # and none of what stands beside "true"
    run = found["runs"][0]
    assert run["cut"] == {
        **{"train": 2, "test": 2},  # 64 positions
        **{"targets of train": 2, "targets of test": 2},  # 8 tokens
    }
    assert run["rank_bound"] == 18  # d, the normalizer and the bias of BART
    assert len(set(run["documents"])) == 1  # two sentences about one table
    tokenizer = tr.AutoTokenizer.from_pretrained(bart)
    assert MARKS[0] not in tokenizer.get_vocab()  # the user's folder is as it was


def test_a_model_that_is_no_encoder_decoder_is_refused(bart, tmp_path):
    (tmp_path / "data").mkdir()
    data = write_folder(tmp_path / "data", XSUM)
    config = tr.GPT2Config(vocab_size=330, n_embd=16, n_layer=1, n_head=2, n_positions=64)
    tr.GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    tr.AutoTokenizer.from_pretrained(bart).save_pretrained(tmp_path / "gpt2")
    with pytest.raises(WideneckError, match="cannot be loaded as an encoder-decoder"):
        made("summaries", data, str(tmp_path / "gpt2"), tmp_path)
    assert not (tmp_path / "runs").exists()  # and the mended command is not refused


def test_a_tokenizer_without_padding_is_refused(bart, tmp_path):
    (tmp_path / "data").mkdir()
    data = write_folder(tmp_path / "data", XSUM)
    tokenizer = tr.AutoTokenizer.from_pretrained(bart)
    bare = tr.PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    bare.save_pretrained(bart)
    with pytest.raises(WideneckError, match="has no pad_token, without which"):
        made("summaries", data, bart, tmp_path)


def test_a_tokenizer_that_ends_no_text_is_refused(bart, tmp_path):
    (tmp_path / "data").mkdir()
    data = write_folder(tmp_path / "data", XSUM)
    tokenizer = tr.AutoTokenizer.from_pretrained(bart)
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.save_pretrained(bart)
    with pytest.raises(WideneckError, match="does not put its eos_token to the end of a text"):
        made("summaries", data, bart, tmp_path)


def test_no_more_is_written_than_the_model_has_positions_for_and_long_targets_are_told(
    bart, tmp_path, monkeypatch, capsys
):
    (tmp_path / "data").mkdir()
    rows = [{"document": 40 * "foggy ", "summary": 40 * "loaf "} for _ in XSUM]
    tiny = pair_tasks.recipe_of
    many = lambda task, scale: replace(tiny(task, scale), target_length=100)  # noqa: E731
    monkeypatch.setattr(pair_tasks, "recipe_of", many)
    found = made("summaries", write_folder(tmp_path / "data", rows), bart, tmp_path)
    assert found["runs"][0]["cut"] == {
        **{"train": 1, "test": 1},
        **{"targets of train": 1, "targets of test": 1},
    }
    told = " ".join(capsys.readouterr().out.split())
    assert "Cut, being longer than what is read or written: sources of train (1), " in told
    assert "targets of test (1)." in told


def test_a_judge_says_something_of_every_text(bart, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    data = write_folder(tmp_path / "data", XSUM)
    config = tr.GPT2Config(vocab_size=330, n_embd=16, n_layer=1, n_head=2, n_positions=256)
    tr.GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    tr.AutoTokenizer.from_pretrained(bart).save_pretrained(tmp_path / "gpt2")
    found = made("summaries", data, bart, tmp_path, judge=str(tmp_path / "gpt2"))
    assert "pmi" in found["settings"]["judged"]
    mean = found["beside"]["reference"]["judge pmi"]
    table = capsys.readouterr().out.partition("What the judge says")[2].partition("\n\n")[0]
    (row,) = (line for line in table.splitlines() if line.startswith("  reference"))
    assert row.split()[1] == f"{mean:.2f}"
    with pytest.raises(WideneckError, match="cannot judge"):
        made("summaries", data, bart, tmp_path, judge=bart)
