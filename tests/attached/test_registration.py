"""`import wideneck` is free, and yet transformers knows its models, in either order."""

import subprocess
import sys

import pytest
import torch
from attachable import attached

LOAD = "AutoModelForCausalLM.from_pretrained(sys.argv[1])"
CHECK = "print(type(model.lm_head).__name__, model.lm_head.weight.shape[0])"
ORDERS = {
    "wideneck first": "import wideneck; from transformers import AutoModelForCausalLM",
    "transformers first": "from transformers import AutoModelForCausalLM; import wideneck",
}


def python(code, *args):
    command = [sys.executable, "-c", f"import sys; {code}", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    torch.manual_seed(0)
    attached("llama", "moss").save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("order", ORDERS)
def test_transformers_loads_the_model_in_either_order(order, folder):
    result = python(f"{ORDERS[order]}; model = {LOAD}; {CHECK}", folder)
    assert result.stdout.split() == ["MixtureHead", "96"], result.stderr


def test_import_loads_neither_torch_nor_transformers():
    code = "import wideneck; print('torch' in sys.modules, 'transformers' in sys.modules)"
    assert python(code).stdout.split() == ["False", "False"]
