"""`wideneck reproduce histalign` from words to table, in runs of a few steps."""

import contextlib
import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import transformers as tr
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from lab.paper_page import checked, rows
from lab.small_reproduction import TINY, use_tiny, write_words
from tiny import GPT2
from wideneck.commands.reproduce import reproduce
from wideneck.errors import WideneckError
from wideneck.files.folder import LOCK
from wideneck.files.store import Store
from wideneck.lab import jobs
from wideneck.lab.ambiguous.words import read_analogies
from wideneck.lab.histalign import reproduction as module
from wideneck.lab.histalign.objectives import OBJECTIVES
from wideneck.lab.histalign.reproduction import SCALES, settings
from wideneck.lab.histalign.runs import Run
from wideneck.lab.registry import Request


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One reproduction of two seeds: the folder, the words, the table as printed, the JSON."""
    place = tmp_path_factory.mktemp("reproduction")
    words = write_words(place)
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        use_tiny(patch)
        patch.setenv("COLUMNS", "80")
        files = {"json": place / "all.json", "html": place / "all.html"}
        reproduce("histalign", words=words, num_seeds=2, out=place / "runs", **files)
    return place / "runs", words, printed.getvalue(), json.loads((place / "all.json").read_text())


def test_the_table_has_ours_and_the_paper_s(finished):
    _, _, table, _ = finished
    lines = [line.rstrip() for line in table.splitlines()]
    assert max(map(len, lines)) <= 80
    assert "63.47" in table
    assert "58.62" in table
    assert "+17.04" in table
    for title in ("cross-entropy", "TRIME as released", "TRIME corrected", "+ HistAlign"):
        assert sum(line.startswith(title) for line in lines) >= 3, title
    for rank in (762, 836, 854, 1280, 1377):
        assert str(rank) in table
    assert "\N{PLUS-MINUS SIGN}" in table


def test_on_the_page_the_paper_s_rows_are_set_back(finished):
    page = (finished[0].parent / "all.html").read_text()
    text = checked(page)
    for said in ("63.47", "+17.04", "Acc@k by k", "is DERIVED"):
        assert said in text
    # Three methods of two models in three tables, and the gap of one of them.
    assert rows(page, beside=True) == ["paper, GPT2-small", "paper, GPT2-large"] * (3 * 3 + 1)
    assert rows(page, beside=False).count("TRIME corrected") == 4


def test_the_json_has_every_run_and_what_each_number_is(finished):
    _, _, _, content = finished
    assert [(run["objective"], run["seed"]) for run in content["runs"]] == [
        (name, seed) for seed in (0, 1) for name in OBJECTIVES
    ]
    assert content["settings"]["split"] == "leak-free"
    assert len(content["settings"]["words_sha256"]) == 64
    assert content["definitions"]["runs[].loss"]["unit"] == "nats"
    assert content["published"]["results"][2 * 9]["value"] == 63.47
    assert {gap["over"] for gap in content["gaps"]} == {"cross_entropy", "trime_released", "trime"}


def test_running_again_makes_only_what_is_missing(finished, monkeypatch, capsys):
    folder, words, table, _ = finished
    use_tiny(monkeypatch)
    monkeypatch.setenv("COLUMNS", "80")
    lost = folder / "trime-seed1.json"
    before = lost.read_text()
    lost.unlink()
    made = []
    real = module.run
    monkeypatch.setattr(module, "run", lambda *a, **k: made.append(a[2:4]) or real(*a, **k))
    reproduce("histalign", words=words, num_seeds=2, out=folder)
    assert made == [("trime", 1)]
    again, first = (json.loads(text) for text in (lost.read_text(), before))
    assert again["full"] == first["full"]
    assert again["loss"] == first["loss"]
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == [LOCK]
    shown = capsys.readouterr().out.split("Memory's share")[0]  # below it are seconds
    assert shown == table.split("Memory's share")[0]


def test_a_folder_of_other_settings_or_other_files_is_refused(finished, monkeypatch, tmp_path):
    folder, words, _, _ = finished
    use_tiny(monkeypatch)
    with pytest.raises(WideneckError, match="split is 'leak-free' there, 'paper' here"):
        reproduce("histalign", words=words, split="paper", out=folder)
    other = write_words(tmp_path, num_pairs=11)
    with pytest.raises(WideneckError, match="words_sha256"):
        reproduce("histalign", words=other, out=folder)
    use_tiny(monkeypatch, replace(TINY, num_steps=5))
    with pytest.raises(WideneckError, match="recipe"):
        reproduce("histalign", words=words, out=folder)
    with pytest.raises(WideneckError, match=r"not the settings\.json"):
        reproduce("histalign", words=words, out=tmp_path)


@pytest.mark.parametrize(
    ("of", "over", "wrong"),
    [
        ("trime-seed0", "trime-seed1", "seed is 0 there, 1 here"),
        ("trime-seed0", "cross_entropy-seed0", "objective is 'trime' there, 'cross_entropy' here"),
    ],
)
def test_a_run_that_was_copied_over_another_is_refused(
    of, over, wrong, finished, monkeypatch, tmp_path
):
    folder, words, _, _ = finished
    use_tiny(monkeypatch)
    runs = shutil.copytree(folder, tmp_path / "runs")
    shutil.copy(runs / f"{of}.json", runs / f"{over}.json")
    with pytest.raises(WideneckError, match=rf"{over}\.json .* \({wrong}\)"):
        reproduce("histalign", words=words, num_seeds=2, out=runs)


def test_a_damaged_run_is_named(tmp_path):
    path = tmp_path / "runs" / "trime-seed0.json"
    with Store.opened(tmp_path / "runs", {}) as folder:
        for text in ("{", "[]", '{"objective": "trime"}'):
            path.write_text(text)
            with pytest.raises(WideneckError, match=r"trime-seed0\.json"):
                folder.finished("trime-seed0", Run)
        assert folder.finished("trime-seed1", Run) is None


def test_processes_side_by_side_find_what_one_finds(tmp_path, monkeypatch):
    words = write_words(tmp_path)
    use_tiny(monkeypatch)
    monkeypatch.setattr(module, "OBJECTIVES", {name: OBJECTIVES[name] for name in ("trime",)})
    monkeypatch.setattr(jobs, "cores", lambda: 2)
    shown = []
    found = []
    for processes in (1, 2):
        monkeypatch.setattr(jobs, "PROCESSES", processes)
        request = Request(
            paper="histalign", own={"words": words}, num_seeds=2, out=tmp_path / str(processes)
        )
        found.append(module.reproduce(request, lambda *a: shown.append(a)).runs)
    for one, two in zip(*found, strict=True):
        assert one.full == two.full
        assert one.loss == two.loss
    assert shown[-1][0] == "2 of 2 runs"
    assert 0 <= shown[-1][1] <= shown[-1][2] == 2 * jobs.UNITS


def test_a_model_of_hugging_face_is_fine_tuned(tmp_path, monkeypatch, capsys):
    words = write_words(tmp_path, num_pairs=6)
    model = saved_model(tmp_path / "model", words, positions=256)
    recipe = replace(
        SCALES["paper"],
        num_epochs=None,
        num_steps=1,
        batch_size=8,
        micro_batch=4,
        num_test_prompts=6,
    )
    monkeypatch.setitem(SCALES, "paper", replace(recipe, num_rank_rows=30))
    reproduce("histalign", model=str(model), words=words, num_seeds=1, out=tmp_path / "runs")
    assert "fine-tuned; 1 steps" in " ".join(capsys.readouterr().out.split())
    assert len(list((tmp_path / "runs").glob("*-seed0.json"))) == len(OBJECTIVES)


def test_a_model_with_too_few_positions_is_refused(tmp_path):
    words = write_words(tmp_path, num_pairs=6)
    model = saved_model(tmp_path / "model", words, positions=16)
    with pytest.raises(WideneckError, match="16 positions"):
        reproduce("histalign", model=str(model), words=words, out=tmp_path / "runs")


@pytest.mark.parametrize(
    ("paper", "options", "message"),
    [
        ("histaling", {}, "Did you mean 'histalign'"),
        ("histalign", {"scale": "smal"}, "Did you mean 'small'"),
        ("histalign", {"split": "leakfree"}, "Did you mean 'leak-free'"),
        ("histalign", {"scale": "small", "model": "gpt2"}, "leave out --model"),
        ("histalign", {"num_seeds": 0}, "at least one seed"),
    ],
)
def test_a_mistake_is_one_sentence(paper, options, message, tmp_path):
    with pytest.raises(WideneckError, match=message):
        reproduce(paper, out=tmp_path / "runs", **options)
    assert not (tmp_path / "runs").exists()


def test_a_paper_that_is_unknown_is_one_line_and_loads_no_torch():
    code = (
        "import sys; sys.argv = ['wideneck', 'reproduce', 'histaling']\n"
        "from wideneck.cli import main\n"
        "try: main()\n"
        "except SystemExit as exit: print(exit.code)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    message, loaded = done.stdout.splitlines()
    assert message.startswith("wideneck: No paper")
    assert "Did you mean 'histalign'?" in message
    assert loaded == "False"


def test_words_that_are_missing_are_asked_for_before_a_folder_is_made(tmp_path):
    with pytest.raises(WideneckError, match="no analogy file"):
        reproduce("histalign", words=tmp_path / "none.txt", out=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_the_settings_know_the_splits_that_there_are():
    from wideneck.lab.ambiguous.splits import SPLITS

    def of(**given):
        return settings(Request(paper="histalign", **given))

    assert of().split == next(iter(SPLITS)) == "leak-free"
    assert of(own={"split": "paper"}).split == "paper"
    assert of(model="gpt2").scale == "paper"
    assert of(scale="paper").model == "gpt2"


def saved_model(folder, words, *, positions):
    """A random GPT-2 whose tokenizer has the words' beginnings as pieces."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    known = [word for some in read_analogies(words).values() for q in some for word in q[1:]]
    inner.train_from_iterator([f"the {word}" for word in known], trainer)
    tr.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|end|>").save_pretrained(folder)
    config = tr.GPT2Config(
        **{**GPT2, "vocab_size": len(inner.get_vocab()), "n_positions": positions}
    )
    tr.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder
