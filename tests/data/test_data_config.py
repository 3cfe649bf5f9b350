"""The [data] table of a recipe."""

import subprocess
import sys

import pytest

from wideneck.data.config import Data
from wideneck.errors import WideneckError


def test_importing_the_data_config_imports_no_torch():
    code = "import sys, wideneck.data.config; assert not {'torch', 'numpy'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_table_may_be_empty_or_full():
    assert Data().text is None
    assert Data(text="a.txt", vocab_size=3, expect={"train": 5, "vocab_size": 3}).tokens == "words"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"text": ""}, "path or name for text, got ''"),
        ({"text": 3}, "path or name for text, got 3"),
        ({"tokens": ""}, "name of a tokenizer for tokens"),
        ({"tokens": None}, "name of a tokenizer for tokens"),
        ({"vocab_size": 2}, "whole number >= 3 for vocab_size, got 2"),
        ({"vocab_size": 3.0}, "whole number >= 3 for vocab_size"),
        ({"vocab_size": True}, "whole number >= 3 for vocab_size"),
        ({"vocab_size": 100, "tokens": "gpt2"}, "gpt2 brings its own vocabulary"),
        ({"expect": 5}, "table of counts for expect"),
        ({"expect": {"tran": 5}}, "called 'tran'. Did you mean 'train'. Known: train, valid"),
        ({"expect": {"train": 0}}, "whole number >= 1 for train, got 0"),
        ({"expect": {"train": "5"}}, "whole number >= 1 for train, got '5'"),
        ({"expect": {"train": True}}, "whole number >= 1 for train, got True"),
    ],
)
def test_a_value_that_cannot_be_is_one_sentence(given, message):
    with pytest.raises(WideneckError, match=message):
        Data(**given)
