"""The card that goes with a saved model."""

from pathlib import Path

import huggingface_hub as hub
import pytest
import transformers as tr
from attachable import attached
from trainer_arguments import sgd
from transformers.utils import hub as pushing

import wideneck as wn
from tiny import tiny_model

GENERATED = (
    "---\nlibrary_name: transformers\ntags: []\n---\n\n# Model Card\n\nMore information needed\n"
)


def card(folder):
    return hub.ModelCard((folder / "README.md").read_text())


def with_all():
    return wn.attach_memory(wn.attention.use(attached("llama", "moss"), "ssmax"))


def test_a_saved_model_says_what_it_needs(tmp_path):
    with_all().save_pretrained(tmp_path)
    written = card(tmp_path)
    assert written.data.library_name == "wideneck"
    assert written.data.tags == ["wideneck"]
    text = " ".join(written.text.split())
    assert "moss output layer, a memory and ssmax in its attention" in text
    assert "wn.load('path/to/this/folder')" in text
    assert not list(tmp_path.glob(".README*"))


def test_a_normalizer_alone_has_a_card_too(tmp_path):
    wn.attention.use(tiny_model("llama"), "sink").save_pretrained(tmp_path)
    assert "with sink in its attention of wideneck" in card(tmp_path).text


def test_a_persons_card_stays(tmp_path):
    (tmp_path / "README.md").write_text("my own words")
    attached("llama", "softmax").save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "my own words"
    other = tmp_path / "second"
    attached("llama", "softmax").save_pretrained(other, is_main_process=False)
    assert not (other / "README.md").exists()


class Uploads(list):
    """In place of the hub: what the folder holds when it is uploaded."""

    def create_repo(self, *args, **kwargs):
        return hub.RepoUrl("https://huggingface.co/me/model")

    def create_branch(self, *args, **kwargs):
        pass

    def create_commit(self, *args, operations, **kwargs):
        for operation in operations:
            if operation.path_in_repo == "README.md":
                self.append(hub.ModelCard(Path(operation.path_or_fileobj).read_text()))

    def upload_folder(self, *args, folder_path, **kwargs):
        self.append(card(Path(folder_path)))


@pytest.fixture
def uploads(monkeypatch):
    sent = Uploads()
    for module in (pushing, tr.modeling_utils, tr.trainer):
        monkeypatch.setattr(module, "hf_api", lambda: sent, raising=False)
        for name in ("create_repo", "create_commit", "create_branch", "upload_folder"):
            monkeypatch.setattr(module, name, getattr(sent, name), raising=False)
    made = lambda *args, **kwargs: hub.ModelCard(GENERATED)  # noqa: E731
    monkeypatch.setattr(pushing, "create_and_tag_model_card", made)
    monkeypatch.setattr(tr.modeling_utils, "create_and_tag_model_card", made)
    return sent


def says_how(written):
    assert written.data.library_name == "wideneck"
    assert "wideneck" in written.data.tags
    assert "wn.load('me/model')" in written.text
    assert written.text.count("Loading this model") == 1
    return True


def test_both_ways_to_the_hub_say_it(tmp_path, uploads):
    model = attached("llama", "softmax")
    model.push_to_hub("me/model")
    model.save_pretrained(tmp_path / "folder", push_to_hub=True, repo_id="me/model")
    assert len(uploads) == 2
    assert all(says_how(written) for written in uploads)
    assert all("More information needed" in written.text for written in uploads)


class OtherCards(tr.Trainer):
    """As TRL's trainers, which write cards of their own."""

    def create_model_card(self, **kwargs):
        (Path(self.args.output_dir) / "README.md").write_text(GENERATED)


@pytest.mark.parametrize("trainer_class", [tr.Trainer, OtherCards])
def test_the_trainers_card_says_it(tmp_path, uploads, trainer_class, monkeypatch):
    arguments = sgd(tmp_path, 1, 1, 1, learning_rate=0.1)
    trainer = trainer_class(attached("llama", "moss"), arguments)
    trainer.hub_model_id = "me/model"
    trainer.init_hf_repo = lambda *args, **kwargs: None
    monkeypatch.setattr(trainer, "_finish_current_push", lambda: None)
    trainer.push_to_hub()
    assert says_how(uploads[-1])
    assert says_how(card(tmp_path))
    if trainer_class is tr.Trainer:
        trainer.create_model_card(model_name="again")
        assert says_how(card(tmp_path))
    assert "create_model_card" not in vars(trainer)


def test_a_plain_model_has_the_trainers_card_alone(tmp_path):
    trainer = tr.Trainer(tiny_model("llama"), sgd(tmp_path, 1, 1, 1, learning_rate=0.1))
    trainer.create_model_card(model_name="plain")
    assert "wideneck" not in (tmp_path / "README.md").read_text()
