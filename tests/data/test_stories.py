"""WritingPrompts: a story is a document, whose lines end where it says so."""

import sys
from types import ModuleType, SimpleNamespace

from wideneck.data import read_corpus

STORIES = [
    "The lamp went out . <newline> <newline> `` Not again , '' I said .",
    "Nobody keeps a lighthouse <newline>twice .",
    "One line .",
]
TOLD = (
    "The lamp went out .\n\n`` Not again , '' I said .",
    "Nobody keeps a lighthouse\ntwice .",
    "One line .",
)


def test_each_story_of_the_archive_is_a_document_without_its_prompt(tmp_path):
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.wp_target").write_text("\n".join([*STORIES, ""]))
        (tmp_path / f"{split}.wp_source").write_text("[ WP ] You keep a lighthouse .\n" * 3)
    corpus = read_corpus(str(tmp_path))
    assert corpus.train == corpus.valid == corpus.test == TOLD


def test_one_file_of_stories_is_cut_between_them(tmp_path):
    (tmp_path / "train.wp_target").write_text("\n".join(STORIES))
    corpus = read_corpus(str(tmp_path / "train.wp_target"))
    assert (corpus.train, corpus.valid, corpus.test) == (TOLD[:1], TOLD[1:2], TOLD[2:])
    assert corpus.name == "train.wp_target, cut 80/10/10 between documents"


def test_a_dataset_has_them_in_a_column_beside_the_prompts(monkeypatch):
    class Split:
        features = dict.fromkeys(("prompt", "story"), SimpleNamespace(dtype="string"))

        def __getitem__(self, column):
            return STORIES if column == "story" else ["[ WP ] You keep a lighthouse ."] * 3

    module = ModuleType("datasets")
    splits = {name: Split() for name in ("train", "validation", "test")}
    monkeypatch.setattr(module, "load_dataset", lambda name: splits, raising=False)
    monkeypatch.setitem(sys.modules, "datasets", module)
    assert read_corpus("datasets:some/writingprompts").train == TOLD
