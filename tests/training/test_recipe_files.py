"""Recipes from TOML, and what is said of one that is wrong: which line, and what to write."""

import json
import re
from importlib import resources

import pytest

from wideneck.commands.train import _check_model
from wideneck.config import HEADS
from wideneck.errors import WideneckError
from wideneck.files.folder import difference
from wideneck.models.small.config import MODELS
from wideneck.recipes import shipped
from wideneck.training.optimizers import OPTIMIZERS
from wideneck.training.recipe_file import read_recipe, recipe

GOOD = """\
seed = 3

[data]
text = "some/text"
vocab_size = 100
expect = { valid = 73_760 }

[model]
name = "awd_lstm"
embedding_size = 8

[head]
name = "mos"
num_components = 2

[head.activation]
name = "sigsoftmax"
shift = 1.0

[optimizer]
name = "sgd"
learning_rate = 1e-3

[training]
epochs = 2
segment = 70
"""


def written(tmp_path, text):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return path


def mistake(tmp_path, text, **options):
    """The line that is named, or None, and the sentence."""
    path = written(tmp_path, text)
    with pytest.raises(WideneckError) as caught:
        read_recipe(path, **options)
    found = re.fullmatch(rf"{re.escape(str(path))}(?:, line (\d+))?: (.*)", str(caught.value))
    assert found, caught.value
    return found[1] and int(found[1]), found[2]


def test_a_recipe_is_read(tmp_path):
    made = read_recipe(written(tmp_path, GOOD))
    assert made.seed == 3
    assert made.data.expect == {"valid": 73_760}
    assert made.head == HEADS["moss"].__class__(
        activation=HEADS["sigsoftmax"].__class__(shift=1.0), num_components=2
    )
    assert made.optimizer.learning_rate == 1e-3  # a string in YAML


def test_options_replace_what_stands_there(tmp_path):
    made = read_recipe(written(tmp_path, GOOD), text="another", seed=9)
    assert (made.data.text, made.seed) == ("another", 9)
    assert made.data.vocab_size == 100
    assert read_recipe(written(tmp_path, 'model = "awd_lstm"'), text="t").data.text == "t"


IN_TABLES = {
    "data, unknown": ("vocab_size = 100", "vocab_sise = 100", "Did you mean 'vocab_size'?"),
    "data, type": ("vocab_size = 100", 'vocab_size = "100"', "whole number >= 3 for vocab_size"),
    "data, range": ("vocab_size = 100", "vocab_size = 2", "whole number >= 3 for vocab_size"),
    "data, a name": ("vocab_size = 100", 'name = "ptb"', "No option of [data] is called 'name'"),
    "data.expect, inline": (
        "expect = { valid = 73_760 }",
        "expect = { valod = 73_760 }",
        "Did you mean 'valid'?",
    ),
    "model, name": ('name = "awd_lstm"', 'name = "awd_lstn"', "Did you mean 'awd_lstm'?"),
    "model, unknown": ("embedding_size = 8", "embeding_size = 8", "Did you mean 'embedding_size'?"),
    "model, type": ("embedding_size = 8", "embedding_size = 8.0", "whole number >= 1"),
    "model, range": ("embedding_size = 8", "weight_dropout = 1.5", "0 <= weight_dropout < 1"),
    "head, name": ('name = "mos"', 'name = "mosss"', "Did you mean 'moss'?"),
    "head, unknown": ("num_components = 2", "num_component = 2", "Did you mean 'num_components'?"),
    "head, range": ("num_components = 2", "num_components = 0", "whole number >= 1"),
    "head.activation, unknown": ("shift = 1.0", "shfit = 1.0", "Did you mean 'shift'?"),
    "head.activation, type": ("shift = 1.0", 'shift = "1"', "finite number for shift, got '1'"),
    "optimizer, name": ('name = "sgd"', 'name = "adam"', "Did you mean 'adamw'?"),
    "optimizer, unknown": ("learning_rate = 1e-3", "lr = 1e-3", "No option of optimizer 'sgd'"),
    "optimizer, type": ("learning_rate = 1e-3", "learning_rate = true", "> 0 for learning_rate"),
    "optimizer, range": ("learning_rate = 1e-3", "learning_rate = inf", "> 0 for learning_rate"),
    "training, unknown": ("segment = 70", "segmnt = 70", "Did you mean 'segment'?"),
    "training, type": ("segment = 70", "segment = [70]", "whole number >= 1 for segment"),
    "training, range": ("segment = 70", "patience = 0", "whole number >= 1 for patience"),
    "training, nan": ("epochs = 2", "epochs = nan", "finite number > 0 for epochs, got nan"),
    "top, unknown": ("seed = 3", "sead = 3", "Did you mean 'seed'?"),
    "top, type": ("seed = 3", "seed = 3.0", "whole number >= 0 for seed, got 3.0"),
    "top, range": ("seed = 3", "seed = -1", "whole number >= 0 for seed, got -1"),
    "top, too large": (
        "seed = 3",
        "seed = 9223372036854775808",
        "at most 9,223,372,036,854,775,807 for seed, got 9223372036854775808",
    ),
    "top, initial": ("seed = 3", "initial = 3", "the folder of a run for initial, got 3"),
    "a table that is none": ("seed = 3", "training = 3", "[training] is a table of settings"),
}


@pytest.mark.parametrize("case", IN_TABLES)
def test_a_mistake_is_named_with_its_line(case, tmp_path):
    before, after, message = IN_TABLES[case]
    assert GOOD.count(before) == 1
    text = GOOD.replace(before, after)
    if "training = 3" in after:
        text = text[: text.index("[training]")]
    line, said = mistake(tmp_path, text)
    assert line == text[: text.index(after)].count("\n") + 1
    assert message in said


UNUSUAL = {
    "dotted": ('model.name = "awd_lstm"\nmodel.embeding_size = 8', 2),
    "spaced": ('model . name = "awd_lstm"\n  model . "embeding_size" = 8', 2),
    "inline": ('seed = 1\nmodel = { name = "awd_lstm", embeding_size = 8 }', 2),
    "dotted below a table": (
        '[model]\nname = "awd_lstm"\n[head]\nname = "mos"\n'
        'activation.name = "sigsoftmax"\nactivation.embeding_size = 1',
        6,
    ),
    "the same key elsewhere": (
        '[model]\nname = "awd_lstm"\nembedding_size = 8\n[training]\nembedding_size = 8',
        5,
    ),
    "windows": ('[model]\r\nname = "awd_lstm"\r\nembeding_size = 8\r\n', 3),
    "after a comment": (
        '# [model]\n# embeding_size = 1\n[model]\nname="awd_lstm"\nembeding_size=8',
        5,
    ),
}


@pytest.mark.parametrize("case", UNUSUAL)
def test_a_key_is_found_however_its_table_is_written(case, tmp_path):
    text, expected = UNUSUAL[case]
    line, said = mistake(tmp_path, text)
    assert line == expected
    assert "edding_size'" in said or "embeding_size" in said


def test_of_two_mistakes_the_first_one_told_is_the_one_pointed_at(tmp_path):
    text = GOOD.replace("segment", "segmnt").replace("embedding_size", "embeding_size")
    line, said = mistake(tmp_path, text)
    assert "'embedding_size'?" in said
    assert text.splitlines()[line - 1] == "embeding_size = 8"


def test_a_mistake_of_two_settings_together_points_at_one_of_them(tmp_path):
    line, said = mistake(tmp_path, GOOD.replace("[data]", '[data]\ntokens = "gpt2"'))
    assert "brings its own vocabulary" in said
    assert line == 4


def test_a_head_on_states_takes_no_words(tmp_path):
    text = '[data]\ntext = "t"\nvocab_size = 100\n[model]\nname = "states"\n'
    line, said = mistake(tmp_path, text)
    assert line == 3
    assert "its model's own tokenizer" in said


def test_states_come_in_whole_windows(tmp_path):
    text = '[model]\nname = "states"\nwindow = 100\ntrain_tokens = 1000\nvalid_tokens = 150\n'
    line, said = mistake(tmp_path, text)
    assert line in (3, 5)
    assert "valid_tokens is a multiple" in said


@pytest.mark.parametrize(
    ("head", "start", "message"),
    [
        ("low_rank", "own", 'starts "whitened" or "random", not "own"'),
        ("mos", "whitened", "is for the head low_rank"),
        ("relu", "own", "relu"),
    ],
)
def test_where_a_head_cannot_start_is_said_before_the_states_are_computed(
    head, start, message, tmp_path
):
    text = f'head = "{head}"\n[model]\nname = "states"\nstart = "{start}"\n'
    line, said = mistake(tmp_path, text, check=_check_model)
    assert line in (1, 4)
    assert message in said


OPTIONS = """\
[model]
name = "transformer"
architecture = "llama"
context = 8

[model.options]
hidden_size = 16
num_hidden_layers = 1
"""


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("hidden_size = 16", "hiden_size = 16", "Did you mean 'hidden_size'?"),
        ("hidden_size = 16", 'hidden_size = "16"', "transformers cannot build a llama"),
        ("hidden_size = 16", "vocab_size = 16", "follows from the vocabulary"),
        ('architecture = "llama"', 'architecture = "lama"', "Did you mean 'llama'?"),
        ("hidden_size = 16", "rms_norm_eps = nan", "finite numbers, no date, nan or inf"),
        ("hidden_size = 16", "rms_norm_eps = 2020-01-01", "finite numbers, no date, nan or inf"),
    ],
)
def test_options_of_transformers_are_checked_with_their_lines(before, after, message, tmp_path):
    text = OPTIONS.replace(before, after)
    line, said = mistake(tmp_path, text, check=_check_model)
    assert text.splitlines()[line - 1] == after
    assert message in said


def test_no_model_is_no_line_s_fault(tmp_path):
    line, said = mistake(tmp_path, "seed = 1\n")
    assert line is None
    assert "needs a [model] table" in said


def test_a_table_without_its_name_is_pointed_at(tmp_path):
    line, said = mistake(tmp_path, 'model = "awd_lstm"\n\n[head]\nnum_components = 3\n')
    assert line == 3
    assert "A table without a name is no head" in said


def test_what_is_no_toml_says_where(tmp_path):
    with pytest.raises(WideneckError, match=r"recipe.toml is not TOML: .*line 1"):
        read_recipe(written(tmp_path, "seed = = 3"))
    with pytest.raises(WideneckError, match=r"recipe.toml is not TOML: .*Cannot overwrite"):
        read_recipe(written(tmp_path, "seed = 3\nseed = 3"))


def test_what_is_no_text_or_not_there_is_said(tmp_path):
    (tmp_path / "recipe.toml").write_bytes(b"seed = 3 # \xff")
    with pytest.raises(WideneckError, match=r"recipe.toml is not UTF-8 text"):
        read_recipe(tmp_path / "recipe.toml")
    with pytest.raises(WideneckError, match=r"There is no recipe .*nowhere.toml"):
        read_recipe(tmp_path / "nowhere.toml")
    with pytest.raises(WideneckError, match="is a folder and no recipe: give the path"):
        read_recipe(tmp_path)


SHIPPED = sorted(
    file.name.removesuffix(".toml")
    for file in resources.files("wideneck.recipes").iterdir()
    if file.name.endswith(".toml")
)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_is_read(name):
    made = read_recipe(shipped(name), check=_check_model)
    assert recipe(json.loads(json.dumps(made.to_dict()))) == made


def test_there_are_shipped_recipes():
    assert len(SHIPPED) >= 6


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_recipe_comes_back_from_its_dictionary(head, optimizer):
    for model in MODELS:
        made = recipe({"model": model, "head": head, "optimizer": optimizer, "seed": 4})
        kept = json.loads(json.dumps(made.to_dict(), allow_nan=False))
        assert recipe(kept) == made
        assert difference(kept, made.to_dict()) is None


def test_the_first_difference_is_named_with_both_values():
    ours = recipe({"model": "awd_lstm", "training": {"segment": 35}}).to_dict()
    theirs = recipe({"model": "awd_lstm", "training": {"patience": 3}}).to_dict()
    assert difference(ours, theirs) == "training.segment is 70 there, 35 here"
    assert difference(theirs, ours) == "training.segment is 35 there, 70 here"
    mixture = recipe({"model": "awd_lstm", "head": "mos", "training": {"segment": 35}}).to_dict()
    assert difference(ours, mixture) == "head.name is 'mos' there, 'softmax' here"
    assert difference(ours, ours) is None
